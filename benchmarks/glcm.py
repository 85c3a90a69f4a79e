"""The five texture features of a 256 x 256 patch at 256 levels, here and by scikit-image: `python benchmarks/glcm.py`.

Both start from HU and end with the mean over four angles of dissimilarity, contrast, homogeneity, energy and correlation:
`stan_ct.features.glcm` by sums over pairs, scikit-image by `graycomatrix` and `graycoprops` on the same gray levels. Both in
one thread, in turns of five calls, `--rounds` times, on patches of a smooth texture, of white noise and of one value. The
values must agree to 1e-9. The second line of a patch has all eight features (scikit-image: the seven that it knows).

Ends with 1 if the median of the rounds' ratios, scikit-image's time by ours, is below 20 on any patch for the five features.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before NumPy

import argparse
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
from skimage.feature import graycomatrix, graycoprops

from stan_ct.features.glcm import FEATURES, Discretization, features, patch_features

WANTED = 20.0
SIDE = 256
CALLS = 5
RADIANS = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
DISCRETIZATION = Discretization.fixed_number(256)
SKIMAGE_FEATURES = (*FEATURES, "ASM", "entropy")


def patches() -> dict[str, np.ndarray]:
    """Name -> (256, 256) HU."""
    rng = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(rng.normal(0, 4000, (SIDE, SIDE)), (0, 0), 6) + rng.normal(0, 20, (SIDE, SIDE)) - 50
    return {"texture": smooth, "white noise": rng.uniform(-1000, 900, (SIDE, SIDE)), "one value": np.full((SIDE, SIDE), 40.0)}


def by_skimage(hu: np.ndarray, names: tuple[str, ...] = FEATURES) -> np.ndarray:
    """(H, W) HU -> the named features, means over four angles."""
    levels = DISCRETIZATION.to_levels(hu)
    matrices = graycomatrix(levels, [1], RADIANS, DISCRETIZATION.levels, symmetric=True, normed=True)
    return np.array([graycoprops(matrices, name).mean() for name in names])


def ratio(theirs: Callable, ours: Callable, rounds: int) -> tuple[float, float, float]:
    """(median ratio of the rounds, median ms of theirs, of ours), in turns."""
    times = np.array([[_seconds(theirs), _seconds(ours)] for _ in range(rounds)])
    return float(np.median(times[:, 0] / times[:, 1])), *(1e3 * np.median(times, axis=0))


def _seconds(call: Callable) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def main() -> int:
    """Prints the ratios; 1 if one is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    slowest = np.inf
    for name, hu in patches().items():
        np.testing.assert_allclose(features(hu, DISCRETIZATION), by_skimage(hu), rtol=1e-9, atol=1e-9)
        compared = {
            "5 features": (lambda hu=hu: by_skimage(hu), lambda hu=hu: features(hu, DISCRETIZATION)),
            "all features": (
                lambda hu=hu: by_skimage(hu, SKIMAGE_FEATURES),
                lambda hu=hu: patch_features(hu[None], DISCRETIZATION),
            ),
        }
        for what, (theirs, ours) in compared.items():
            times, ms_theirs, ms_ours = ratio(theirs, ours, rounds)
            print(f"{name:12} {what:12} scikit-image {ms_theirs:6.2f} ms, here {ms_ours:5.2f} ms: {times:5.1f} times as fast")
            slowest = min(slowest, times) if what == "5 features" else slowest
    print(f"slowest {slowest:.1f}, wanted {WANTED:g} or more")
    return int(slowest < WANTED)


if __name__ == "__main__":
    sys.exit(main())
