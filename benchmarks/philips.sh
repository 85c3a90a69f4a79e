#!/usr/bin/env bash
# The numbers of docs/RESULTS.md: the shipped model, its rival and the switches, on the half of the slices that trained nothing.
# benchmarks/philips.sh CT OUT      CT: folder that holds pair_philips_5mm (kernel_B, kernel_L); OUT: a new folder.
set -euo pipefail
ct=$1/pair_philips_5mm out=$2 python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

for fit in amplitude wiener blend; do
  $python data/make_patches.py --flagfile=data/flags/philips_patches.flags --front_end=$fit --patches_per_slice=1 \
    --input_dir="$ct" --output_dir="$out/records_$fit" >"$out/log" 2>&1
  $python train.py --method=kernel_filter --name=filter-$fit --records_dir="$out/records_$fit" --output_dir="$out/model_$fit" \
    >>"$out/log" 2>&1
done

table() { # OUT ROWS: prints rows (a pattern) of a report, the five errors and the RMSE of HU
  $python - "$1" "$2" <<'PY'
import csv, pathlib, re, sys
cells = {}
for name in ("table_errors_written_dicom", "table_hu_written_dicom"):
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
  $python reconstruct.py --input_dir="$ct/kernel_B" --output_dir="$out/$name" --model=philips_b_l "$@" >"$out/$name.log" 2>&1
  $python evaluate.py --source_dir="$ct/kernel_B" --synthesized_dir="$name=$out/$name/series" --target_dir="$ct/kernel_L" \
    --only_instances="$out/records_amplitude/test_instances.txt" --output_dir="$out/$name/errors" >>"$out/$name.log" 2>&1
  table "$out/$name/errors" "$name"
  $python - "$out/$name/manifest.json" <<'PY'
import json, sys
series = json.load(open(sys.argv[1]))["series"][0]
print(f"    kept {series['kept_fraction']:.3f} of {series['patches']} patches, findings {series['findings']}, {series['seconds']} s")
PY
}

printf '| image | dissimilarity | contrast | homogeneity | energy | correlation | HU RMSE |\n|---|---|---|---|---|---|---|\n'
paper=(--patch_layout=random --fusion_weights=mean --hu_rescale=patch --mask=pixel)
row shipped
table "$out/shipped/errors" source
row filter_amplitude --model="$out/model_amplitude"
row filter_wiener --model="$out/model_wiener"
row filter_blend --model="$out/model_blend"
row straightforward --fusion=straightforward
row overlap --fusion=overlap "${paper[@]}"
row realfake --fusion=realfake "${paper[@]}"
row stan_ct_paper --fusion=stan_ct "${paper[@]}"
row random --patch_layout=random
row slice --patch_layout=slice
row mean --fusion_weights=mean
row rescale_slice --hu_rescale=slice
row rescale_patch --hu_rescale=patch
row air --mask=air
row closed --mask=closed
row filter_amplitude_closed --model="$out/model_amplitude" --mask=closed
row pixel --mask=pixel
row float32 --precision=float32
