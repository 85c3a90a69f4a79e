#!/usr/bin/env bash
# The numbers of docs/RESULTS.md: the shipped model, its rival and the switches, on the slices held back from training.
# benchmarks/philips.sh CT OUT      CT: folder that holds pair_philips_5mm (kernel_B, kernel_L); OUT: a new folder.
set -euo pipefail
ct=$1/pair_philips_5mm out=$2 python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

for fit in amplitude wiener; do
  $python data/make_patches.py --flagfile=data/flags/philips_patches.flags --front_end=$fit --patches_per_slice=1 \
    --input_dir="$ct" --output_dir="$out/records_$fit" >"$out/log" 2>&1
  $python train.py --method=kernel_filter --name=filter-$fit --records_dir="$out/records_$fit" --output_dir="$out/model_$fit" \
    >>"$out/log" 2>&1
done

row() { # NAME FLAGS...: reconstructs with FLAGS, prints the errors of the synthesized slices
  local name=$1 && shift
  $python reconstruct.py --input_dir="$ct/kernel_B" --output_dir="$out/$name" "$@" >"$out/$name.log" 2>&1
  $python evaluate.py --source_dir="$ct/kernel_B" --synthesized_dir="$out/$name/series" --target_dir="$ct/kernel_L" \
    --only_instances="$out/records_amplitude/held_back.txt" --output_dir="$out/$name/errors" >>"$out/$name.log" 2>&1
  grep -E '^\| synthesized' "$out/$name/errors/errors.md" | sed "s/| synthesized/| $name/"
  $python - "$out/$name/manifest.json" <<'PY'
import json, sys
series = json.load(open(sys.argv[1]))["series"][0]
print(f"    kept {series['kept_fraction']:.3f} of {series['patches']} patches, findings {series['findings']}, {series['seconds']} s")
PY
}

row shipped
grep -E '^\| (image|---|source)' "$out/shipped/errors/errors.md"
row filter_amplitude --model="$out/model_amplitude"
row filter_wiener --model="$out/model_wiener"
row straightforward --fusion=straightforward
row overlap --fusion=overlap --patch_layout=random --fusion_weights=mean --hu_rescale=patch
row realfake --fusion=realfake --patch_layout=random --fusion_weights=mean --hu_rescale=patch
row stan_ct_paper --fusion=stan_ct --patch_layout=random --fusion_weights=mean --hu_rescale=patch
row random --patch_layout=random
row slice --patch_layout=slice
row mean --fusion_weights=mean
row rescale_slice --hu_rescale=slice
row rescale_patch --hu_rescale=patch
row closed --mask=closed
row float32 --precision=float32
