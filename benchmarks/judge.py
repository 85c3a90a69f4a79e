"""What check 2 lets pass: python benchmarks/judge.py MODEL RECORDS [KERNEL]

Judges test patches of records with the judge of a model: targets and its own outputs, which must pass, and what
must not. Prints a table of shares, which docs/RESULTS.md shows.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import fft, ndimage

from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import find_model
from stan_ct.models.judge import THRESHOLD
from stan_ct.patches.dataset import read_patches
from stan_ct.reconstruction.synthesis import NetworkSynthesizer, load_synthesizer

PATCHES, REASONS = 200, 20
"""Number of patches that are judged of each kind, and of rejected ones whose reasons are counted."""
BODY = -900.0
"""Mean HU of a square from which boxes, discs and rings are put there: a box of air in air is nothing wrong."""


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
    names = ("box of air", "box of its mean", "disc", "no disc", "ring")
    local = {name: target.copy() for name in names}
    for i, image in enumerate(target):
        row, column = place_in_body(image, rng)
        square = np.s_[row - 16 : row + 16, column - 16 : column + 16]
        distance = np.hypot(rows - row, columns - column)
        local["box of air"][i][square], local["box of its mean"][i][square] = -1000, image[square].mean()
        local["disc"][i][distance < 4.5] += 100
        local["no disc"][i][distance < 4.5] -= 100
        local["ring"][i][np.abs(distance - 60) < 1] += 20
    half, quarter = target.copy(), target.copy()
    half[..., : side // 2], quarter[:, : side // 2, : side // 2] = raw[..., : side // 2], raw[:, : side // 2, : side // 2]
    grains = rng.random(target.shape)
    detail = target - ndimage.gaussian_filter(target, (0, 3, 3))
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
        "target + 5 HU of noise": target + rng.normal(0, 5, target.shape),
        "air": np.full_like(target, -1000),
        "target with a box of 32 px of air": local["box of air"],
        "target with a box of its mean": local["box of its mean"],
        "target + checkerboard of 3 HU": target + 3 * (-1.0) ** (rows + columns),
        "target + waves of 4 px, 3 HU": target + 3 * np.cos(np.pi * columns / 2),
        "target + waves of 8 px, 3 HU": target + 3 * np.cos(np.pi * columns / 4),
        "half source, half target": half,
        "a quarter source": quarter,
        "target of another patch": np.roll(target, len(target) // 2, axis=0),
        "target moved by 1 px": np.roll(target, 1, axis=2),
        "target moved by half a px": ndimage.shift(target, (0, 0.5, 0), order=3, mode="nearest"),
        "target turned by 90 degrees": np.rot90(target, axes=(1, 2)),
        "rows that differ by 5 HU": target + rng.normal(0, 5, (len(target), side, 1)),
        "ring of 20 HU, 2 px wide": local["ring"],
        "HU 5 % too high, from air": 1.05 * (target + 1000) - 1000,
        "gamma of 1.05": np.clip((target + 1024) / 2524, 0, 1) ** 1.05 * 2524 - 1024,
        "target + 10 HU": target + 10,
        "target + 5 HU": target + 5,
        "salt and pepper, .1 % of the pixels": np.where(grains < 0.0005, -1000, np.where(grains > 0.9995, 1000, target)),
        "median of 3 x 3 px": ndimage.median_filter(target, (1, 3, 3)),
        "target sharpened by .3": target + 0.3 * (target - ndimage.gaussian_filter(target, (0, 1, 1))),
        "noise of another dose: x 1.15": target + 0.15 * detail,
        "... x .85": target - 0.15 * detail,
        "blocks as of JPEG": as_jpeg(target, 20),
        "... finer": as_jpeg(target, 5),
        "disc of 9 px, + 100 HU": local["disc"],
        "disc of 9 px, - 100 HU": local["no disc"],
    }


def place_in_body(image: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a place in the body, 56 px from the border; anywhere there if there is no body."""
    inside = ndimage.uniform_filter(image, 33)[56:-56, 56:-56] > BODY
    places = np.argwhere(inside if inside.any() else np.ones_like(inside))
    row, column = places[rng.integers(len(places))] + 56
    return int(row), int(column)


def as_jpeg(patches: np.ndarray, step: float) -> np.ndarray:
    """Rounded in the cosine transform of blocks of 8 x 8 px; high frequencies in up to 15 times the step, HU."""
    number, side = len(patches), patches.shape[-1] // 8
    blocks = fft.dctn(patches.reshape(number, side, 8, side, 8), axes=(2, 4), norm="ortho")
    steps = step * (1 + np.add.outer(np.arange(8), np.arange(8)))[:, None]
    return fft.idctn(np.round(blocks / steps) * steps, axes=(2, 4), norm="ortho").reshape(patches.shape)


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
