"""Numbers and pictures behind the simulator: `python benchmarks/simulator.py [CT]` (CT: the folder with the real series).

1. Texture (GLCM, five features) of simulated kernels and thicknesses, relative to BL64 1 mm (Eq. 8), and of real series.
2. Seconds and memory per output slice in three kernels at 1 mm.
3. docs/simulated.png, real beside simulated in a lung and a soft-tissue window, if CT is given.
"""

import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from stan_ct.ct.display_windows import LUNG_WINDOW, SOFT_TISSUE_WINDOW
from stan_ct.ct.hounsfield import SOFT_TISSUE, soft_tissue_mask
from stan_ct.ct.kernels import KERNELS
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.features.glcm import FEATURES, Discretization, features
from stan_ct.simulation.study import Patient, Scan, acquire

SEEDS = range(1, 9)
KERNELS_MADE = tuple(KERNELS[name] for name in ("BR40", "BL57", "BL64"))
RANGES = {"-1024 .. 3071 HU": (-1024, 3071), "soft tissue -1000 .. 900 HU": SOFT_TISSUE, "lung -1350 .. 150 HU": (-1350, 150)}
REAL = {"Philips D 1 mm": "chest_philips_1mm", "Siemens B31f 2 mm": "chest_siemens_b31f_2mm"}
PAIR = ("pair_philips_5mm/kernel_B", "pair_philips_5mm/kernel_L")
WINDOWS = (LUNG_WINDOW, SOFT_TISSUE_WINDOW)
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "simulated.png"


def patches(image):
    """The 256 x 256 patches of a slice, stride 64, that are at least 70 % soft tissue."""
    mask = soft_tissue_mask(image)
    corners = [(i, j) for i in range(0, image.shape[0] - 255, 64) for j in range(0, image.shape[1] - 255, 64)]
    windows = [np.s_[i : i + 256, j : j + 256] for i, j in corners]
    return [window for window in windows if mask[window].mean() >= 0.7]


def texture(images, where, levels):
    """Mean features over patches of some slices, (n, 5) before the mean."""
    return np.array(
        [features(image[window], levels) for image, windows in zip(images, where, strict=True) for window in windows]
    )


def simulated():
    """{(kernel, thickness): [slices]} of eight patients, three slices each, at full dose."""
    images, scan = {}, Scan(KERNELS_MADE, (0.5, 1.0, 1.5, 3.0), slices=3, increment=20, dose=(1, 1))
    for seed in SEEDS:
        for _, made in acquire(Patient(seed, scan), range(3)):
            for (_, kernel, thickness), image in zip(scan.series, made, strict=True):
                images.setdefault((kernel.name, thickness), []).append(image.astype(np.float32))
    return images


def volume(folder):
    """A real series, (Z, H, W) HU."""
    return load_series(find_series(folder).series[0]).volume


def print_texture(ct):
    """The tables."""
    images = simulated()
    where = [patches(image) for image in images["BR40", 1.0]]
    real = {name: volume(ct / folder)[::6] for name, folder in REAL.items()} if ct else {}
    pair = [volume(ct / folder)[::6] for folder in PAIR] if ct else []
    for title, limits in RANGES.items():
        levels = Discretization.fixed_number(256, *limits)
        print(f"\n256 levels over {title}: {' '.join(FEATURES)}, and relative error against BL64 1 mm")
        values = {key: texture(made, where, levels) for key, made in images.items()}
        target = values["BL64", 1.0]
        for key in [(k.name, 1.0) for k in KERNELS_MADE] + [("BL64", t) for t in (0.5, 1.5, 3.0)]:
            error = np.mean(np.abs(values[key] - target) / np.abs(target), axis=0)
            print(f"simulated {key[0]} {key[1]:g} mm | {numbers(values[key].mean(0))} | {numbers(error)}")
        spread = np.percentile(values["BR40", 1.0], (5, 95), axis=0)
        print(f"simulated BR40 1 mm, 5 % to 95 % of patches | {numbers(spread[0])} to {numbers(spread[1])}")
        for name, slices in real.items():
            found = texture(slices, [patches(image) for image in slices], levels)
            spread = np.percentile(found, (5, 95), axis=0)
            print(f"real {name} | {numbers(found.mean(0))} | {numbers(spread[0])} to {numbers(spread[1])}")
        if pair:
            at = [patches(image) for image in pair[0]]
            b, sharp = (texture(slices, at, levels) for slices in pair)
            print(f"real Philips B against L, 5 mm | | {numbers(np.mean(np.abs(b - sharp) / np.abs(sharp), axis=0))}")


def numbers(values):
    """Three digits each."""
    return " ".join(f"{value:.3g}" for value in values)


def print_speed():
    """Seconds per slice of a running series, and how memory grows with slices."""
    patient = Patient(1, Scan(KERNELS_MADE, slices=60, start=-30))
    start = time.perf_counter()
    patient.phantom.slice(0)
    print(f"\nphantom ready after {time.perf_counter() - start:.1f} s")
    run, times, memory = acquire(patient, range(60)), [], []
    for _ in range(60):
        start = time.perf_counter()
        next(run)
        times.append(time.perf_counter() - start)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"slice in three kernels at 1 mm: {np.median(times):.2f} s in one process; most memory after 10, 30, 60 slices: ")
    print(", ".join(f"{memory[n - 1]:.0f} MB" for n in (10, 30, 60)))


def draw(ct):
    """Real | simulated, two windows."""
    real = [volume(ct / folder) for folder in REAL.values()]
    left = [real[0][len(real[0]) // 2], real[1][len(real[1]) // 2]]
    right = []
    for seed, place in ((28, -80.0), (17, 55.0)):
        scan = Scan((KERNELS["BR40"],), slices=1, start=place, dose=(1, 1))
        right.append(next(acquire(Patient(seed, scan), [0]))[1][0])
    rows = []
    for one, other in zip(left, right, strict=True):
        panels = [gray(image, window) for window in WINDOWS for image in (one, other)]
        rows.append(np.hstack(panels))
    cv2.imwrite(str(FIGURE), np.vstack(rows), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"\n{FIGURE}: rows: two real series, each beside a simulated patient; lung, then soft-tissue window")


def gray(image, window):
    """A slice in a display window, 384 x 384."""
    return window.to_gray(cv2.resize(np.asarray(image, np.float32), (384, 384), interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print_speed()
    print_texture(folder)
    if folder:
        draw(folder)
