"""What check 2 lets pass: python benchmarks/judge.py MODEL RECORDS [KERNEL]

Judges test patches of records with the judge of a model: targets and its own outputs, which must pass, and what
must not. Prints a table of shares, which docs/RESULTS.md shows.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import ndimage

from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import find_model
from stan_ct.models.judge import THRESHOLD
from stan_ct.patches.dataset import read_patches
from stan_ct.reconstruction.synthesis import NetworkSynthesizer, load_synthesizer

PATCHES, REASONS = 200, 20
"""Number of patches that are judged of each kind, and of rejected ones whose reasons are counted."""


def spread_patches(records: str, config: ModelConfig, filtered: bool, kernel: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Sources, (N, 256, 256, slices) HU, and targets, (N, 256, 256) HU, of the test split, evenly spread."""
    adjacent = config.generator.adjacent_slices if filtered else 0
    batches = list(read_patches(records, "test", config.hu_window, 64, filtered=filtered, kernel=kernel, adjacent=adjacent))
    pairs = [config.hu_window.to_hu(np.concatenate([np.asarray(batch[k]) for batch in batches])) for k in (0, 1)]
    chosen = np.linspace(0, len(pairs[0]) - 1, min(PATCHES, len(pairs[0]))).astype(int)
    return pairs[0][chosen], pairs[1][chosen, ..., 0]


def wrong(raw: np.ndarray, filtered: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Patches that are no output for their sources, by what is wrong with them."""
    side, rows, columns = target.shape[-1], *np.mgrid[: target.shape[-1], : target.shape[-1]]
    boxed, smooth = target.copy(), target.copy()
    for box, even in zip(boxed, smooth, strict=True):
        row, column = rng.integers(40, side - 72, 2)
        square = np.s_[row : row + 32, column : column + 32]
        box[square], even[square] = -1000, even[square].mean()
    half, quarter = target.copy(), target.copy()
    half[..., : side // 2], quarter[:, : side // 2, : side // 2] = raw[..., : side // 2], raw[:, : side // 2, : side // 2]
    return {
        "source untouched": raw,
        "filter alone": filtered,
        "filter of another kernel: half the change": raw + 0.5 * (filtered - raw),
        "... .8 of it": raw + 0.8 * (filtered - raw),
        "... 1.2 of it": raw + 1.2 * (filtered - raw),
        "white noise of 200 HU": rng.normal(target.mean(), 200, target.shape),
        "target, blur of .6 px": ndimage.gaussian_filter(target, (0, 0.6, 0.6)),
        "target, blur of .4 px": ndimage.gaussian_filter(target, (0, 0.4, 0.4)),
        "target + 20 HU of noise": target + rng.normal(0, 20, target.shape),
        "target + 10 HU of noise": target + rng.normal(0, 10, target.shape),
        "air": np.full_like(target, -1000),
        "target with a box of 32 px of air": boxed,
        "target with a box of its mean": smooth,
        "target + checkerboard of 3 HU": target + 3 * (-1.0) ** (rows + columns),
        "target + waves of 4 px, 3 HU": target + 3 * np.cos(np.pi * columns / 2),
        "target + waves of 8 px, 3 HU": target + 3 * np.cos(np.pi * columns / 4),
        "half source, half target": half,
        "a quarter source": quarter,
        "target of another patch": np.roll(target, len(target) // 2, axis=0),
        "target moved by 1 px": np.roll(target, 1, axis=2),
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
    raw, target = spread_patches(sys.argv[2], synthesizer.config, False, kernel)
    seen = spread_patches(sys.argv[2], synthesizer.config, synthesizer.config.front_end is not None, kernel)[0]
    given, raw = seen[..., 0], raw[..., 0]
    shown = {"unseen targets (must pass)": target, "own output (must pass)": synthesizer(seen)[0]}
    shown |= wrong(raw, given, target, np.random.default_rng(0))
    print(f"{len(target)} test patches\n\n| | passed | most frequent reason |\n|---|---|---|")
    for name, patches in shown.items():
        outputs = np.float32(patches)
        accepted = synthesizer.judge(given, outputs) >= THRESHOLD
        reasons = synthesizer.judge.explain(given[~accepted][:REASONS], outputs[~accepted][:REASONS])
        reason = Counter(reasons).most_common(1)[0][0] if reasons else ""
        print(f"| {name} | {accepted.mean():.1%} | {reason} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
