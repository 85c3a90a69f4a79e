"""What each check is worth where patches deserve rejection: python benchmarks/planted.py MODEL SOURCE TARGET BAD...

Every fifth patch is made by another generator, BAD: the folder of a model, such as one that was trained for ten steps or for
another kernel, or the word `filter` for a patch that is left as the generator of MODEL was given it. SOURCE and TARGET are
folders of one series each. Prints Table 2, check by check, which docs/RESULTS.md shows: how many planted patches, and how many
others, check 2 rejected; errors of the five features and HU RMSE against the target; slices with findings.

--only_instances=FILE leaves out slices whose SOP Instance UID is not in the file, such as test_instances.txt of records.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, load_series
from stan_ct.features.errors import hu_error, texture_errors
from stan_ct.models.folder import find_model, read_config
from stan_ct.networks.discriminator import p_real
from stan_ct.patches.sampling import PATCH_SIZE, grid_patches
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.pipeline import standardize_slice
from stan_ct.reconstruction.settings import method_settings

EVERY = 5
"""One patch of so many is planted."""
SOFT_TISSUE = 0.7
"""Fraction of soft tissue in the patches whose errors are measured."""
ROWS = {"tiles, no check": "straightforward", "check 1": "overlap", "+ check 2": "realfake", "+ check 3": "stan_ct"}
"""Row -> method of Table 2."""

Network = Callable[[np.ndarray], np.ndarray]


class Planted:
    """A synthesizer some of whose patches another generator made.

    Args:
        model: Synthesizer with a judge or a discriminator.
        bad: Makes the planted patches, (N, 256, 256) HU -> same shape.
    Attributes:
        by_judge: Whether the judge says what is plausible, rather than the discriminator.
        threshold: Plausibility below which a patch is rejected.
        rejected: Whether each patch was rejected, one list for planted patches and one for the others.
    """

    def __init__(self, model, bad: Network | None) -> None:
        self.model, self.bad, self.by_judge, self.discriminator = model, bad, True, None
        self.rejected: dict[bool, list[bool]] = {True: [], False: []}
        self.threshold, self._made = 0.5, {}

    def prepare(self, hu, pixel_spacing, kernel=""):
        """As the model does."""
        return self.model.prepare(hu, pixel_spacing, kernel)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patches, planted ones among them, and their plausibility."""
        digests = [hashlib.sha256(patch.tobytes()).digest() for patch in patches]
        planted = np.array([self.bad is not None and digest[0] % EVERY == 0 for digest in digests])
        new = [i for i, digest in enumerate(digests) if digest not in self._made]
        for which, network in ((False, lambda given: self.model(given)[0]), (True, self.bad)):
            chosen = [i for i in new if planted[i] == which]
            if chosen:
                self._made |= {digests[i]: made for i, made in zip(chosen, network(patches[chosen]), strict=True)}
        made = np.stack([self._made[digest] for digest in digests])
        plausible = self.model.judge(patches, made) if self.by_judge else self.by_discriminator(made)
        for one, p in zip(planted, plausible, strict=True):
            self.rejected[bool(one)].append(bool(p < self.threshold))
        return made, plausible

    def by_discriminator(self, made: np.ndarray) -> np.ndarray:
        """P(real) under the model's discriminator, (N,)."""
        gray = self.model.config.hu_window.to_network(made)[..., None]
        return np.concatenate([np.asarray(p_real(self.discriminator(one[None], training=False)[1])) for one in gray])


def load_discriminator(folder: Path):
    """The discriminator of a model, None if it has none."""
    from stan_ct.models.folder import load_weights

    if not (folder / "discriminator.npz").is_file():
        return None
    discriminator = read_config(folder).build_discriminator("float32")
    load_weights(folder, "discriminator", discriminator)
    return discriminator


def read_pair(source: str, target: str, only: str | None) -> tuple[Series, np.ndarray, list[int]]:
    """Source series, target volume, and the slices that are measured."""
    first, second = (load_series(find_series(folder).series[0]) for folder in (source, target))
    chosen = set(Path(only).read_text().split()) if only else {instance.uid for instance in first.instances}
    return first, second.volume, [z for z, instance in enumerate(first.instances) if instance.uid in chosen]


def measure(series: Series, target: np.ndarray, slices: list[int], images: dict[int, np.ndarray]) -> str:
    """Five errors over patches of soft tissue, and HU RMSE over soft tissue, as cells of a table."""
    pairs, squares = [], []
    for z in slices:
        mask = series.soft_tissue(z)
        places = [p for p in grid_patches(mask.shape, PATCH_SIZE, PATCH_SIZE // 2) if mask[p.window].mean() >= SOFT_TISSUE]
        pairs += [(images[z][p.window], target[z][p.window]) for p in places]
        squares.append(hu_error(images[z], target[z], mask).rmse ** 2)
    made, wanted = (np.stack([pair[k] for pair in pairs]) for k in (0, 1))
    errors = texture_errors(wanted)(made)
    return " ".join(f"{error:.3f}" for error in errors.values()) + f" | {np.sqrt(np.mean(squares)):.1f}"


def row(series: Series, target: np.ndarray, slices: list[int], synthesizer: Planted, method: str) -> str:
    """Cells of one row."""
    layout = None if method == "straightforward" else "grid"  # patches are what is planted
    settings = method_settings(method, qc_threshold=synthesizer.threshold, patch_layout=layout)
    synthesizer.rejected = {True: [], False: []}
    images, found = {}, 0
    for z in slices:
        kernel = synthesizer.model.config.source_kernel.split(", ")[0]
        result = standardize_slice(series.slice(z), synthesizer, settings, np.random.default_rng(z), kernel)
        images[z], found = result.hu, found + bool(result.findings)
    shares = [f"{np.mean(r):.0%} of {len(r)}" if r and settings.checks > 1 else "" for r in synthesizer.rejected.values()]
    return f"{' | '.join(shares)} | {measure(series, target, slices, images)} | {found} of {len(slices)}"


def main(model: str, source: str, target: str, *bad: str, only: str | None = None) -> int:
    """Prints a table for each BAD."""
    with quiet_start():
        from stan_ct.reconstruction.synthesis import load_synthesizer

        folder = find_model(model)
        good, discriminator = load_synthesizer(folder), load_discriminator(folder)
    if getattr(good, "judge", None) is None:
        print(f"{model} has no judge: stan-ct fit-judge fits one", file=sys.stderr)
        return 1
    series, volume, slices = read_pair(source, target, only)
    threshold = 0.0
    columns = "planted rejected | others rejected | five errors | HU RMSE | slices with findings"
    for name in ("nothing", *bad):
        print(f"\nPlanted: {name}\n\n| | {columns} |\n|---|---|---|---|---|---|", flush=True)
        network = None if name == "nothing" else np.copy if name == "filter" else _network(load_synthesizer(find_model(name)))
        planted = Planted(good, network)
        for title, method in ROWS.items():
            planted.by_judge, planted.threshold = True, 0.5
            if title == "+ check 2" and discriminator is not None:
                planted.by_judge, planted.discriminator = False, discriminator
                threshold = planted.threshold = _threshold(planted) if network is None else threshold
                print(f"| + check 2 by D | {row(series, volume, slices, planted, method)} |", flush=True)
                planted.by_judge, planted.threshold = True, 0.5
            print(f"| {title} | {row(series, volume, slices, planted, method)} |", flush=True)
    return 0


def _network(synthesizer) -> Network:
    return lambda patches: synthesizer(patches)[0]


def _threshold(planted: Planted) -> float:
    """Twice as far below the median P(real) of all patches so far as their 1 % quantile, as training chooses it."""
    low, median = np.quantile(planted.by_discriminator(np.stack(list(planted._made.values()))), (0.01, 0.5))
    return float(2 * low - median)


if __name__ == "__main__":
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--only_instances=")]
    given = [argument for argument in sys.argv[1:] if argument not in flags]
    if len(given) < 4:
        sys.exit(__doc__)
    sys.exit(main(*given, only=flags[0].split("=", 1)[1] if flags else None))
