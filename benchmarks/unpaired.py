"""Filters from scans of different patients beside what pairs and features give, on slices or patients that none was fitted to.

python benchmarks/unpaired.py philips CT/pair_philips_5mm
python benchmarks/unpaired.py simulated PATIENTS --numbers 1,2,5,10 --source BR40 --target BL64
python benchmarks/unpaired.py simulated PATIENTS --numbers 10 --minutes 20
python benchmarks/unpaired.py losses PATIENTS --numbers 10 --steps 250
python benchmarks/unpaired.py patients PATIENTS --numbers 10
python benchmarks/unpaired.py toshiba CT/pair_toshiba_phantom
python benchmarks/unpaired.py limbs CT/unpaired_ge_limb
python benchmarks/unpaired.py sites PATIENTS
python benchmarks/unpaired.py null PATIENTS

`philips`: source slices of one half of the chest, target slices of the other, both ways round; every second slice reports.
`simulated`: source patients are the first of PATIENTS/train, target patients those that follow, and both ways round; those of
PATIENTS/test report. `toshiba`: source neck, target chest, and both ways round; the other level reports. These print errors of
dissimilarity, contrast, homogeneity, energy and correlation (Eq. 8) on soft-tissue patches of rounded and clipped slices, and
HU RMSE over soft tissue. ComBat is fitted to features of patches of the scans that `adapt` had, and applied to those that
report. `losses`: a generator on the first source patients' filter, with each part of its training left out in turn.
`patients`: mean features of each source patient's filtered patches beside those of like patches of others and of its
own in the target kernel, and distances of all patients' spectra from those of both kernels.

The others compare cohorts as `stan-ct sites` does: distance of features, classifiers, and ranks of patients within a site.
`limbs`: tumours of patients scanned with SOFT or STANDARD. `sites`: the first half of PATIENTS/train in the source kernel, the
other half in the target kernel, the first standardized to the other; and ranks beside those that the target kernel gives the
same patients. `null`: random halves of PATIENTS/train in the source kernel.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from unpaired_losses import PARTS, losses
from unpaired_patients import patients
from unpaired_sites import limbs, null, simulated_sites

from stan_ct.adaptation.page import worth
from stan_ct.adaptation.run import adapt
from stan_ct.ct.blend import fit_curves
from stan_ct.ct.field_of_view import outside_field_of_view
from stan_ct.ct.filters import RadialFilter, Spacing, fit_radial_filter
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.evaluation.statistics.combat import Combat
from stan_ct.features.errors import five_features, relative_error
from stan_ct.parallel import usable_cores
from stan_ct.patches.cutting import continued
from stan_ct.patches.fusion import pad_to
from stan_ct.patches.sampling import PATCH_SIZE, SamplingRule, grid_patches
from stan_ct.reconstruction.loading import load_model

MEASURED, FITTED = 8, 24
"""Largest number of slices of a patient that report, or that ComBat is fitted to; and of pairs for the paired filter."""


@dataclass(frozen=True)
class Pairs:
    """Slices of a scan in two kernels."""

    source: Series
    target: Series

    @property
    def spacing(self) -> Spacing:
        """Pixel spacing (row, column), mm."""
        return self.source.files.pixel_spacing


class Report:
    """Measures filters on soft-tissue patches.

    Args:
        pairs: Slices that report.
    """

    def __init__(self, pairs: Sequence[Pairs]) -> None:
        self._slices, targets, masks = [], [], []
        for pair in pairs:
            for z in range(len(pair.source.volume)):
                mask = pad_to(pair.source.soft_tissue(z), PATCH_SIZE, PATCH_SIZE)
                windows = soft_windows(mask)
                target = pad_to(pair.target.volume[z], PATCH_SIZE, PATCH_SIZE)
                self._slices.append((one(pair.source, z), pair.spacing, windows))
                targets += [target[w] for w in windows]
                masks += [mask[w] for w in windows]
        self._pairs, self._target, self._mask = pairs, np.stack(targets), np.stack(masks)
        self._features = five_features(self._target)

    def row(self, name: str, curve: RadialFilter | None) -> None:
        """Prints a row of the table; None for the source."""
        self._print(name, self._patches(curve))

    def model_row(self, name: str, words: str = "") -> None:
        """Prints the row of a model that ships, or of a model folder."""
        model = load_model(name)
        slices = [hu for pair in self._pairs for hu in model.standardize(pair.source).volume]
        self._print(words or f"model {name}, {len(slices)} slices", self._cut(slices))

    def combat_row(self, name: str, sources: Sequence[Series], targets: Sequence[Series]) -> None:
        """Prints the row of ComBat, fitted to patches of some scans of either side; no image changes."""
        sides = [np.concatenate([five_features(soft_patches(series)) for series in side]) for side in (sources, targets)]
        fitted = Combat.fit(np.concatenate(sides), np.repeat([0, 1], [*map(len, sides)]))
        both = [five_features(self._patches(None)), self._features]
        source, target = (fitted.apply(values, np.full(len(values), side)) for side, values in enumerate(both))
        print(f"| ComBat of features, {name} | {_errors(source, target)} | no image |", flush=True)

    def _patches(self, curve: RadialFilter | None) -> np.ndarray:
        return self._cut([s.volume[0] if curve is None else filtered(s, spacing, curve) for s, spacing, _ in self._slices])

    def _cut(self, slices: Sequence[np.ndarray]) -> np.ndarray:
        """The patches of all slices, (N, P, P) HU."""
        padded = [pad_to(hu, PATCH_SIZE, PATCH_SIZE) for hu in slices]
        windows = [windows for _, _, windows in self._slices]
        return np.stack([hu[w] for hu, of in zip(padded, windows, strict=True) for w in of]).astype(np.float32)

    def _print(self, name: str, output: np.ndarray) -> None:
        rmse = np.sqrt(np.mean(np.square(output - self._target, dtype=np.float64), where=self._mask))
        print(f"| {name} | {_errors(five_features(output), self._features)} | {rmse:.2f} |", flush=True)


def _errors(output: np.ndarray, target: np.ndarray) -> str:
    """Mean errors (Eq. 8) of features, (N, 5) both."""
    return " ".join(f"{e:.3f}".removeprefix("0") for e in np.nanmean(relative_error(output, target), axis=0))


def soft_windows(mask: np.ndarray) -> list[tuple[slice, slice]]:
    """Windows of the patches of a slice that hold enough soft tissue."""
    windows = [patch.window for patch in grid_patches(mask.shape)]
    return [w for w in windows if mask[w].mean() >= SamplingRule().min_soft_tissue]


def soft_patches(series: Series) -> np.ndarray:
    """Patches of soft tissue of a series, (N, P, P) HU."""
    found = []
    for z, hu in enumerate(series.volume):
        padded = pad_to(hu, PATCH_SIZE, PATCH_SIZE)
        found += [padded[w] for w in soft_windows(pad_to(series.soft_tissue(z), PATCH_SIZE, PATCH_SIZE))]
    return np.stack(found)


def one(series: Series, z: int) -> Series:
    """A slice of a series."""
    files = SeriesFiles((series.instances[z],), series.files.grid)
    return Series(files, series.volume[z : z + 1], series.padding[z : z + 1])


def filtered(source: Series, spacing: Spacing, curve: RadialFilter) -> np.ndarray:
    """A filtered slice as a file holds it: rounded, not below -1024 HU, and outside the field of view as it was."""
    hu = source.volume[0]
    outside = outside_field_of_view(hu, source.padding[0])
    return np.where(outside, hu, np.maximum(np.rint(curve(continued(source), spacing)), -1024))


def chosen(files: SeriesFiles, places: Iterable[int]) -> Series:
    """Some slices of a series."""
    return load_series(SeriesFiles(tuple(files.instances[z] for z in places), files.grid))


def spread(count: int, number: int) -> list[int]:
    """Evenly spread indices."""
    number = min(count, number)
    return [i * count // number for i in range(number)]


def copy(files: SeriesFiles, places: Iterable[int], folder: Path) -> Path:
    """Copies the files of some slices to a folder of their own, as a site would have them."""
    folder.mkdir(parents=True)
    for z in places:
        shutil.copy(files.instances[z].path, folder / f"{z}.dcm")
    return folder


def paired_rows(report: Report, pairs: Sequence[Pairs]) -> None:
    """Rows of the source and of filters fitted to pairs."""
    slices = [(p, z) for p in pairs for z in range(len(p.source.volume))]
    slices = [slices[i] for i in spread(len(slices), FITTED)]
    fit = [(continued(one(p.source, z)), continued(one(p.target, z)), p.spacing) for p, z in slices]
    report.row("source", None)
    report.row("paired amplitude filter, to the corners", fit_radial_filter(fit))
    report.row("paired filter, fitted with clipping", fit_curves(fit, 1.0).blend((1.0,)))


def unpaired_rows(
    report: Report, name: str, sources: Sequence[Path], targets: Sequence[Path], scratch: Path, minutes: float = 0
) -> None:
    """Rows of the filter that `stan-ct adapt` fits, of the model with a generator if one is kept, and of ComBat."""
    made = adapt([*map(str, sources)], [*map(str, targets)], scratch, workers=usable_cores(), minutes=minutes)
    (fitted,) = made.filters.values()
    sure = f"{100 * fitted.uncertainty:.1f} %, dose {fitted.dose:.2f}"
    report.row(f"**adapt**, {name} ({sure})", fitted.filter)
    if made.trial:
        print(worth(made.trial), flush=True)
        if made.trial.kept:
            report.model_row(str(scratch))
    some = [[chosen(f, spread(len(f.instances), MEASURED)) for f in map(of_one, side)] for side in (sources, targets)]
    report.combat_row(name, *some)


def of_one(folder: Path) -> SeriesFiles:
    """The only series of a folder."""
    (files,) = find_series(folder).series
    return files


def philips(folder: Path, scratch: Path) -> None:
    """Other anatomy: halves of a chest."""
    source, target = (of_one(folder / f"kernel_{kernel}") for kernel in "BL")
    count = len(source.instances)
    fits, reports = range(0, count, 2), range(1, count, 2)
    report = Report([Pairs(chosen(source, reports), chosen(target, reports))])
    paired_rows(report, [Pairs(chosen(source, fits), chosen(target, fits))])
    seen = load_model("philips_b_l").seen
    unseen = [z for z in reports if seen.of(source.instances[z]) == "study"]
    Report([Pairs(chosen(source, unseen), chosen(target, unseen))]).model_row("philips_b_l")
    halves = {"lower": [z for z in fits if z < count // 2], "upper": [z for z in fits if z >= count // 2]}
    for one_half, other in (("lower", "upper"), ("upper", "lower")):
        there = [
            copy(files, halves[half], scratch / f"{one_half}{kernel}")
            for files, half, kernel in ((source, one_half, "B"), (target, other, "L"))
        ]
        unpaired_rows(report, f"source {one_half}, target {other} half", there[:1], there[1:], scratch / f"{one_half}-model")


def simulated_patients(folder: Path, kernels: tuple[str, str]) -> list[list[Path]]:
    """Folders of the series of simulated patients in two kernels."""
    patients = sorted(path for path in folder.iterdir() if path.is_dir())
    return [[path / f"{kernel}_1mm" for kernel in kernels] for path in patients]


def simulated_pairs(patients: Sequence[Sequence[Path]], number: int) -> list[Pairs]:
    """Some slices of each patient."""
    series = [[of_one(path) for path in each] for each in patients]
    return [Pairs(*(chosen(f, spread(len(f.instances), number)) for f in each)) for each in series]


def simulated(folder: Path, scratch: Path, kernels: tuple[str, str], numbers: Sequence[int], minutes: float) -> None:
    """Other patients of other doses."""
    train = simulated_patients(folder / "train", kernels)
    report = Report(simulated_pairs(simulated_patients(folder / "test", kernels), MEASURED))
    paired_rows(report, simulated_pairs(train[:6], 4))
    if kernels[1] == "BL64":
        report.model_row("default")
    for number in numbers:
        first, second = train[:number], train[number : 2 * number]
        for a, b, label in ((first, second, "first"), (second, first, "next")):
            sources, targets = [source for source, _ in a], [target for _, target in b]
            name = f"{number} + {number} patients, source the {label}"
            unpaired_rows(report, name, sources, targets, scratch / f"{number}-{label}", minutes)


def each_part(folder: Path, scratch: Path, kernels: tuple[str, str], number: int, steps: int, parts: list[str]) -> None:
    """The competition without pairs with each part left out in turn."""
    train = simulated_patients(folder / "train", kernels)
    report = Report(simulated_pairs(simulated_patients(folder / "test", kernels), 4))
    sources = [str(source) for source, _ in train[:number]]
    targets = [str(target) for _, target in train[number : 2 * number]]
    losses(sources, targets, scratch, steps, parts, report.model_row)


def toshiba(folder: Path, scratch: Path) -> None:
    """Other levels of a phantom, two slices each: far too few, and shown as such."""
    levels = {level: [folder / level / kernel for kernel in ("FC13", "FC51")] for level in ("neck", "chest")}
    for source, target in (("neck", "chest"), ("chest", "neck")):
        print(f"source {source}, target {target}; {target} reports")
        both = {level: [chosen(files, range(len(files.instances))) for files in map(of_one, levels[level])] for level in levels}
        report = Report([Pairs(*both[target])])
        paired_rows(report, [Pairs(*both[source])])
        unpaired_rows(report, "two slices a side", levels[source][:1], levels[target][1:], scratch / source)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("philips", "simulated", "losses", "patients", "toshiba", "limbs", "sites", "null"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="BR40")
    parser.add_argument("--target", default="BL64")
    parser.add_argument("--numbers", default="1,2,5,10", help="patients a side")
    parser.add_argument("--minutes", default=0.0, type=float, help="training of a generator, simulated patients alone")
    parser.add_argument("--steps", default=250, type=int, help="steps of G, of losses alone")
    parser.add_argument("--parts", default=",".join(PARTS), help="rows of losses")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, kernels = Path(scratch), (args.source, args.target)
        if args.data == "simulated":
            simulated(args.folder, folder, kernels, [*map(int, args.numbers.split(","))], args.minutes)
        elif args.data == "losses":
            each_part(args.folder, folder, kernels, int(args.numbers), args.steps, args.parts.split(",") if args.parts else [])
        elif args.data == "patients":
            patients(args.folder, folder, kernels, int(args.numbers))
        elif args.data in ("sites", "null"):
            {"sites": simulated_sites, "null": null}[args.data](args.folder, folder, kernels)
        else:
            {"philips": philips, "toshiba": toshiba, "limbs": limbs}[args.data](args.folder, folder)


if __name__ == "__main__":
    main()
