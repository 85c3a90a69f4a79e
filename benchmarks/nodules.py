"""Planted lesions: do small nodules stay what they are?

python benchmarks/nodules.py --patients=OUT/patients/test --model=default [--kernels=BR40,BL57] [--slices=6]
                             [--thickness=1] [--consecutive]

Discs are planted in simulated test patients, as each kernel shows them (their outline through the kernel's MTF): solid nodules
of 2, 3 and 4 mm radius in lung, and lesions of +60 HU and 5 mm radius in soft tissue. The source is standardized with and
without them; the difference of both outputs is what became of a lesion. Printed are, over all places, in source, output and
target: the contrast of its inner half in HU, its diameter at half maximum in mm, and the detectability index of a
non-prewhitening observer in the image's own noise; and how many structures the fidelity guard found.

Exit codes: 0 all within the limits, 1 not.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import fft, ndimage

from stan_ct.ct.kernels import KERNELS, Kernel
from stan_ct.ct.spectra import radial_frequency
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, load_series
from stan_ct.reconstruction.loading import load_model

LESIONS = {
    "lung 2 mm": ((-950, -780), 2.0, 880.0),
    "lung 3 mm": ((-950, -780), 3.0, 880.0),
    "lung 4 mm": ((-950, -780), 4.0, 880.0),
    "soft tissue 5 mm": ((20, 80), 5.0, 60.0),
}
"""Name -> HU of the tissue around it, radius in mm, contrast in HU."""
CONTRAST, DIAMETER, DETECTABILITY = 0.05, 0.3, 0.9
"""Limits: contrast within this share of the target's, diameter within this many mm, at least this share of the index."""
APART, HALF, EACH = 26.0, 16, 3
"""Least distance of lesions, mm; half side of the window of a lesion, px; lesions of a kind in a slice at most."""


def main() -> int:
    """Prints a table for each kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--kernels", default="BR40,BL57")
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--thickness", default="1", help="slice thickness of the source, mm; the target's is 1 mm")
    parser.add_argument("--consecutive", action="store_true", help="slices side by side, for models that see adjacent slices")
    chosen = parser.parse_args()
    model, kept = load_model(chosen.model), True
    standard = model.identity.target_kernel
    for kernel in chosen.kernels.split(","):
        shown = {name: {"source": [], "output": [], "target": []} for name in LESIONS}
        noise = {name: {"source": [], "output": [], "target": []} for name in LESIONS}
        structures = {"without": 0, "with": 0}
        for patient in sorted(p for p in chosen.patients.iterdir() if p.is_dir()):
            source, target = (
                load(patient / name, chosen.slices, chosen.consecutive)
                for name in (f"{kernel}_{chosen.thickness}mm", f"{standard}_1mm")
            )
            spacing, places = (
                source.files.pixel_spacing[0],
                [find_places(hu, source.files.pixel_spacing[0]) for hu in target.volume],
            )
            planted = {
                "source": plant(source, places, KERNELS[kernel]),
                "target": plant(target, places, KERNELS[standard]),
            }
            bare = model.standardize(source)
            more = replace(source, volume=np.clip(source.volume + planted["source"], -1024, None))
            full = model.standardize(more, allow_out_of_protocol=True)
            planted["output"] = full.volume - bare.volume
            for name, result in (("without", bare), ("with", full)):
                structures[name] += sum(len(found) for found in result.fidelity.slices)
            images = {"source": source.volume, "output": bare.volume, "target": target.volume}
            for z, found in enumerate(places):
                for name, (row, column) in found:
                    window = np.s_[z, row - HALF : row + HALF + 1, column - HALF : column + HALF + 1]
                    for image in images:
                        shown[name][image].append(planted[image][window])
                        noise[name][image].append(images[image][window])
        kept &= report(kernel, shown, noise, spacing, structures)
    return 0 if kept else 1


def load(folder: Path, number: int, consecutive: bool) -> Series:
    """Some slices of a series, evenly spread, or those in its middle."""
    (files,) = find_series(folder).series
    last = len(files.instances) - 1
    ends = ((last - number + 1) // 2, (last - number + 1) // 2 + number - 1) if consecutive else (0, last)
    chosen = np.linspace(*ends, number).round().astype(int)
    return load_series(replace(files, instances=tuple(files.instances[z] for z in chosen)))


def find_places(hu: np.ndarray, spacing: float) -> list[tuple[str, tuple[int, int]]]:
    """Kinds of lesions and where there is room for them, far from each other and from other tissue."""
    rng, found = np.random.default_rng(int(abs(hu).sum()) % 2**32), []
    smooth = ndimage.gaussian_filter(hu, 4)
    for name, ((low, high), radius, _) in LESIONS.items():
        room = ndimage.minimum_filter((smooth > low) & (smooth < high), round(2 * (radius + 3) / spacing))
        room[:HALF], room[-HALF:], room[:, :HALF], room[:, -HALF:] = False, False, False, False
        candidates = rng.permutation(np.argwhere(room))[:400]
        for place in candidates:
            near = any(np.hypot(*(place - other)) * spacing < APART for _, other in found)
            if not near and sum(kind == name for kind, _ in found) < EACH:
                found.append((name, tuple(int(n) for n in place)))
    return found


def plant(series: Series, places: list, kernel: Kernel) -> np.ndarray:
    """(Z, H, W) HU: the lesions alone, as a kernel shows them."""
    spacing, planted = series.files.pixel_spacing[0], np.zeros_like(series.volume)
    y, x = np.indices(planted.shape[1:])
    for z, found in enumerate(places):
        for name, (row, column) in found:
            _, radius, contrast = LESIONS[name]
            distance = np.hypot(y - row, x - column) * spacing - radius
            planted[z] += contrast * np.clip(0.5 - distance / spacing, 0, 1)
        frequency = radial_frequency(planted[z].shape, (spacing, spacing))
        planted[z] = fft.irfft2(fft.rfft2(planted[z]) * kernel.mtf(frequency), s=planted[z].shape)
    return planted


def report(kernel: str, shown: dict, noise: dict, spacing: float, structures: dict) -> bool:
    """Prints a kernel's table; whether all lesions are within the limits."""
    print(f"\n{kernel}\n| lesion | places | contrast, HU: source, output, target | diameter, mm | detectability index |")
    print("|---|---|---|---|---|")
    kept = True
    for name, images in shown.items():
        number = len(images["output"])
        if number < 2:
            print(f"| {name} | {number} | too few places | | |")
            continue
        numbers = np.array([measure(np.stack(images[i]), np.stack(noise[name][i]), LESIONS[name][1], spacing) for i in images])
        cells = [
            ", ".join(f"{value:.{digits}f}" for value in column) for column, digits in zip(numbers.T, (0, 2, 1), strict=True)
        ]
        (_, output, target) = numbers
        good = (
            abs(output[0] / target[0] - 1) <= CONTRAST,
            abs(output[1] - target[1]) <= DIAMETER,
            output[2] >= DETECTABILITY * target[2],
        )
        kept &= all(good)
        marked = [cell if ok else f"**{cell}**" for cell, ok in zip(cells, good, strict=True)]
        print(f"| {name} | {number} | {' | '.join(marked)} |")
    print(f"Structures that the fidelity guard found: {structures['without']} without lesions, {structures['with']} with them.")
    return kept and structures["with"] == 0


def measure(lesions: np.ndarray, images: np.ndarray, radius: float, spacing: float) -> tuple[float, float, float]:
    """Contrast in HU, diameter in mm, detectability index of lesions (N, S, S) in the noise of images (N, S, S)."""
    mean = lesions.mean(axis=0)
    y, x = np.indices(mean.shape) - HALF
    contrast = mean[np.hypot(y, x) * spacing <= radius / 2].mean()
    diameter = 2 * np.sqrt((mean > contrast / 2).sum() / np.pi) * spacing
    template = mean - mean.mean()
    answers = np.tensordot(images - images.mean(axis=(1, 2), keepdims=True), template, 2)
    return contrast, diameter, float((template**2).sum() / answers.std())


if __name__ == "__main__":
    sys.exit(main())
