"""What check 2 lets pass: python benchmarks/judge.py MODEL RECORDS [KERNEL]

Judges test patches of records with the judge of a model: targets and its own outputs, which must pass, and what
must not. Prints a table of shares, which docs/RESULTS.md shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.folder import find_model
from stan_ct.models.judge import THRESHOLD
from stan_ct.patches.dataset import read_patches
from stan_ct.reconstruction.synthesis import NetworkSynthesizer, load_synthesizer

WINDOW = HUWindow()
PATCHES = 200


def spread_patches(records: str, filtered: bool, kernel: str | None) -> list[np.ndarray]:
    """Sources and targets of the test split, (N, 256, 256) HU each, evenly spread."""
    batches = list(read_patches(records, "test", WINDOW, 64, filtered=filtered, kernel=kernel))
    pairs = [WINDOW.to_hu(np.concatenate([np.asarray(batch[k])[..., 0] for batch in batches])) for k in (0, 1)]
    chosen = np.linspace(0, len(pairs[0]) - 1, min(PATCHES, len(pairs[0]))).astype(int)
    return [patches[chosen] for patches in pairs]


def wrong(raw: np.ndarray, filtered: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Patches that are no output for their sources, by what is wrong with them."""
    side = target.shape[-1]
    rows, columns = np.mgrid[:side, :side]
    boxed = target.copy()
    for patch in boxed:
        row, column = rng.integers(40, side - 72, 2)
        patch[row : row + 32, column : column + 32] = -1000
    half = np.concatenate([raw[..., : side // 2], target[..., side // 2 :]], axis=-1)
    return {
        "source untouched": raw,
        "filter alone": filtered,
        "half of the filter's change": (raw + filtered) / 2,
        "white noise": rng.normal(target.mean(), 200, target.shape),
        "target, blur of .6 px": ndimage.gaussian_filter(target, (0, 0.6, 0.6)),
        "target + 20 HU noise": target + rng.normal(0, 20, target.shape),
        "air": np.full_like(target, -1000),
        "target with a box of 32 px": boxed,
        "target + checkerboard of 3 HU": target + 3 * (-1.0) ** (rows + columns),
        "left half source, right half target": half,
        "target of another patch": np.roll(target, len(target) // 2, axis=0),
    }


def main() -> int:
    """Prints the table."""
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return 1
    synthesizer = load_synthesizer(find_model(Path(sys.argv[1])))
    if not isinstance(synthesizer, NetworkSynthesizer) or synthesizer.judge is None:
        print("this model has no judge: train it with 40 validation patches at least", file=sys.stderr)
        return 1
    kernel = sys.argv[3] if len(sys.argv) == 4 else None
    raw, target = spread_patches(sys.argv[2], False, kernel)
    given = spread_patches(sys.argv[2], synthesizer.config.front_end is not None, kernel)[0]
    shown = {"target": target, "own output": synthesizer(given)[0]}
    shown |= wrong(raw, given, target, np.random.default_rng(0))
    print(f"{len(target)} test patches\n\n| | passed |\n|---|---|")
    for name, patches in shown.items():
        passed = synthesizer.judge(given, np.float32(patches)) >= THRESHOLD
        print(f"| {name} | {passed.mean():.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
