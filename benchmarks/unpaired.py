r"""Filters from scans of different patients beside the paired filter, on slices or patients that neither fitted.

python benchmarks/unpaired.py philips CT/pair_philips_5mm
python benchmarks/unpaired.py simulated PATIENTS --numbers 1,2,5,10 --source BR40 --target BL64
python benchmarks/unpaired.py toshiba CT/pair_toshiba_phantom
python benchmarks/unpaired.py limbs CT/unpaired_ge_limb

`philips`: source slices of one half of the chest, target slices of the other, both ways round; every second slice reports.
`simulated`: source patients are the first of PATIENTS/train, target patients those that follow, and both ways round; those of
PATIENTS/test report. `toshiba`: source neck, target chest, and both ways round; the other level reports. `limbs`: no pairs;
distances of each patient's spectra from those of both kernels, and effect sizes (Cohen's d) of texture features of soft tissue
against the target's, before and after. The others print errors of dissimilarity, contrast, homogeneity, energy and correlation
(Eq. 8) on soft-tissue patches of rounded and clipped slices, and HU RMSE over soft tissue.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stan_ct.adaptation.run import adapt
from stan_ct.ct.blend import fit_curves
from stan_ct.ct.field_of_view import outside_field_of_view
from stan_ct.ct.filters import RadialFilter, Spacing, fit_radial_filter
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.features.errors import texture_errors
from stan_ct.features.texture import texture_features
from stan_ct.parallel import usable_cores
from stan_ct.patches.cutting import continued
from stan_ct.patches.fusion import pad_to
from stan_ct.patches.sampling import PATCH_SIZE, SamplingRule, grid_patches

REPORTED, FITTED = 24, 24
"""Largest number of slices of a series that report, and of pairs to which the paired filter is fitted."""


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
                windows = [patch.window for patch in grid_patches(mask.shape)]
                windows = [w for w in windows if mask[w].mean() >= SamplingRule().min_soft_tissue]
                target = pad_to(pair.target.volume[z], PATCH_SIZE, PATCH_SIZE)
                self._slices.append((one(pair.source, z), pair.spacing, windows))
                targets += [target[w] for w in windows]
                masks += [mask[w] for w in windows]
        self._target, self._mask = np.stack(targets), np.stack(masks)
        self._errors = texture_errors(self._target)

    def row(self, name: str, curve: RadialFilter | None) -> None:
        """Prints a row of the table; None for the source."""
        patches = []
        for source, spacing, windows in self._slices:
            hu = pad_to(source.volume[0] if curve is None else filtered(source, spacing, curve), PATCH_SIZE, PATCH_SIZE)
            patches += [hu[window] for window in windows]
        output = np.stack(patches).astype(np.float32)
        errors = list(self._errors(output).values())
        rmse = np.sqrt(np.mean(np.square(output - self._target, dtype=np.float64), where=self._mask))
        print(f"| {name} | {' '.join(f'{e:.3f}'.removeprefix('0') for e in errors)} | {rmse:.2f} |", flush=True)


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


def unpaired_row(report: Report, name: str, sources: Sequence[Path], targets: Sequence[Path], scratch: Path) -> None:
    """Row of the model that `stan-ct adapt` makes."""
    made = adapt([*map(str, sources)], [*map(str, targets)], scratch, workers=usable_cores())
    (fitted,) = made.filters.values()
    sure = f"{100 * fitted.uncertainty:.1f} %, dose {fitted.dose:.2f}"
    report.row(f"**adapt**, {name} ({sure})", fitted.filter)


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
    halves = {"lower": [z for z in fits if z < count // 2], "upper": [z for z in fits if z >= count // 2]}
    for one_half, other in (("lower", "upper"), ("upper", "lower")):
        there = [
            copy(files, halves[half], scratch / f"{one_half}{kernel}")
            for files, half, kernel in ((source, one_half, "B"), (target, other, "L"))
        ]
        unpaired_row(report, f"source {one_half}, target {other} half", there[:1], there[1:], scratch / f"{one_half}-model")


def simulated(folder: Path, scratch: Path, kernels: tuple[str, str], numbers: Sequence[int]) -> None:
    """Other patients of other doses."""

    def of(part: str) -> list[list[Path]]:
        patients = sorted(path for path in (folder / part).iterdir() if path.is_dir())
        return [[path / f"{kernel}_1mm" for kernel in kernels] for path in patients]

    def pairs(both: Sequence[Sequence[Path]], number: int) -> list[Pairs]:
        series = [[of_one(path) for path in each] for each in both]
        return [Pairs(*(chosen(f, spread(len(f.instances), number)) for f in each)) for each in series]

    train, report = of("train"), Report(pairs(of("test"), 8))
    paired_rows(report, pairs(train[:6], 4))
    for number in numbers:
        first, second = train[:number], train[number : 2 * number]
        for a, b, label in ((first, second, "first"), (second, first, "next")):
            sources, targets = [source for source, _ in a], [target for _, target in b]
            name = f"{number} + {number} patients, source the {label}"
            unpaired_row(report, name, sources, targets, scratch / f"{number}-{label}")


def toshiba(folder: Path, scratch: Path) -> None:
    """Other levels of a phantom, two slices each: far too few, and shown as such."""
    levels = {level: [folder / level / kernel for kernel in ("FC13", "FC51")] for level in ("neck", "chest")}
    for source, target in (("neck", "chest"), ("chest", "neck")):
        print(f"source {source}, target {target}; {target} reports")
        both = {level: [chosen(files, range(len(files.instances))) for files in map(of_one, levels[level])] for level in levels}
        report = Report([Pairs(*both[target])])
        paired_rows(report, [Pairs(*both[source])])
        unpaired_row(report, "two slices a side", levels[source][:1], levels[target][1:], scratch / source)


def limbs(folder: Path, scratch: Path) -> None:
    """Two kernels of different patients, without pairs: noise, and features of central soft tissue, before and after."""
    made = adapt(folder / "SOFT", folder / "STANDARD", scratch / "model", workers=usable_cores())
    (fitted,) = made.filters.values()
    print(f"uncertainty {100 * fitted.uncertainty:.1f} %, dose {fitted.dose:.2f}, missing patients {made.missing_patients}")
    tissue: dict[str, list[dict[str, float]]] = {"SOFT": [], "SOFT, adapted": [], "STANDARD": []}
    for kernel in ("SOFT", "STANDARD"):
        for patient in sorted((folder / kernel).iterdir()):
            files = of_one(patient / "image")
            series = chosen(files, spread(len(files.instances), 6))
            tissue[kernel].append(features(series.volume))
            shape, sides = series_characteristics(series).shape, (*made.config.sources, made.config.standard)
            distances = ", ".join(f"{side.shape_distance(shape):.2f} from {side.kernel}" for side in sides)
            print(f"{kernel} {patient.name}: {distances}")
            if kernel == "SOFT":
                after = [filtered(one(series, z), files.pixel_spacing, fitted.filter) for z in range(len(series.volume))]
                tissue["SOFT, adapted"].append(features(np.stack(after), series.volume))
    standard = tissue.pop("STANDARD")
    for name in standard[0]:
        cells = []
        for patients in tissue.values():
            a, b = (np.array([values[name] for values in side]) for side in (patients, standard))
            cells.append(f"{(a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2):+.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


def features(volume: np.ndarray, source: np.ndarray | None = None) -> dict[str, float]:
    """Texture features of soft tissue, HU 0 to 100 after smoothing of the source."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(volume if source is None else source, (0, 2, 2))
    mask = ndimage.binary_erosion((smooth > 0) & (smooth < 100), np.ones((1, 5, 5)))
    return texture_features(volume.astype(np.float64), mask=mask)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("philips", "simulated", "toshiba", "limbs"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default="BR40")
    parser.add_argument("--target", default="BL64")
    parser.add_argument("--numbers", default="1,2,5,10", help="patients a side")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.data == "simulated":
            simulated(args.folder, Path(scratch), (args.source, args.target), [*map(int, args.numbers.split(","))])
        else:
            {"philips": philips, "toshiba": toshiba, "limbs": limbs}[args.data](args.folder, Path(scratch))


if __name__ == "__main__":
    main()
