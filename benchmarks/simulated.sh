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

row() { # NAME FLAGS...: reconstructs with FLAGS, prints the errors of the synthesized slices
  local name=$1 && shift
  $python reconstruct.py --input_dir="$out/BR40" --output_dir="$out/$name" "$@" >"$out/$name.log" 2>&1
  $python evaluate.py --source_dir="$out/BR40" --synthesized_dir="$out/$name/series" --target_dir="$out/BL64" \
    --output_dir="$out/$name/errors" >>"$out/$name.log" 2>&1
  grep -E '^\| synthesized' "$out/$name/errors/errors.md" | sed "s/| synthesized/| $name/"
}

row model --model="$model"
grep -E '^\| (image|---|source)' "$out/model/errors/errors.md"
row model_closed --model="$model" --mask=closed
row filter_amplitude --model="$out/filter"
row filter_amplitude_closed --model="$out/filter" --mask=closed
