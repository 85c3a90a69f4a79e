#!/usr/bin/env bash
# The simulated rows of docs/RESULTS.md: the demo's model and its rival, the radial filter, on four simulated test patients.
# benchmarks/simulated.sh OUT      OUT: a new folder. TRAIN=1 trains the model anew (30 minutes on 2 cores).
set -euo pipefail
out=$1 python=${PYTHON:-.venv/bin/python} model=stan_ct/models/simulated
mkdir -p "$out"

$python data/simulate.py --output_dir="$out/patients" --kernels=BR40,BL64 --slices=20 --increment=6 \
  --patients=14 --validation_patients=2 --test_patients=4 >"$out/log" 2>&1
$python data/make_patches.py --input_dir="$out/patients" --output_dir="$out/records" --source_kernels=BR40 --target_kernel=BL64 \
  --split=folders --front_end=amplitude --train_patches=5600 --validation_patches=200 --test_patches=200 >>"$out/log" 2>&1
$python train.py --method=kernel_filter --name=filter --records_dir="$out/records" --output_dir="$out/filter" >>"$out/log" 2>&1
if [ -n "${TRAIN:-}" ]; then
  model=$out/model
  $python train.py --flagfile=data/flags/simulated_train.flags --records_dir="$out/records" --output_dir="$model" >>"$out/log" 2>&1
fi

for kernel in BR40 BL64; do
  mkdir -p "$out/$kernel"
  for patient in "$out"/patients/test/SIM*/; do
    ln -sfn "$(realpath "$patient")/${kernel}_1mm" "$out/$kernel/$(basename "$patient")"
  done
done

table() { # OUT ROWS: prints rows (a pattern) of a report, the five errors and the RMSE of HU
  $python - "$1" "$2" <<'PY'
import csv, pathlib, re, sys
cells = {}
for name in ("table_series_written_dicom", "table_hu_written_dicom"):
    for line in csv.DictReader((pathlib.Path(sys.argv[1]) / f"{name}.csv").open()):
        cells.setdefault(line["row"], {})[line["column"]] = line
errors = ("dissimilarity", "contrast", "homogeneity", "energy", "correlation")
for row in (row for row in cells if re.fullmatch(sys.argv[2], row)):
    numbers = [f"{float(cells[row][e]['mean']):.3f} ± {float(cells[row][e]['sd']):.3f}" for e in errors]
    print(f"| {row} | {' | '.join(numbers)} | {float(cells[row]['RMSE']['mean']):.1f} |")
PY
}

row() { # NAME FLAGS...: reconstructs with FLAGS, prints the errors of the synthesized slices
  local name=$1 && shift
  $python reconstruct.py --input_dir="$out/BR40" --output_dir="$out/$name" "$@" >"$out/$name.log" 2>&1
  $python evaluate.py --source_dir="$out/BR40" --synthesized_dir="$name=$out/$name/series" --target_dir="$out/BL64" \
    --simulated --output_dir="$out/$name/errors" >>"$out/$name.log" 2>&1
  table "$out/$name/errors" "$name"
}

printf '| image | dissimilarity | contrast | homogeneity | energy | correlation | HU RMSE |\n|---|---|---|---|---|---|---|\n'
row model --model="$model"
table "$out/model/errors" source
row model_pixel --model="$model" --mask=pixel
row filter_amplitude --model="$out/filter"
row filter_amplitude_pixel --model="$out/filter" --mask=pixel
