"""Scans of a site: whose they are, of which kernels, and what is measured of each patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stan_ct.ct.field_of_view import continue_smoothly, outside_field_of_view
from stan_ct.ct.filters import HIGHEST_FLOOR, RadialFilter
from stan_ct.ct.fingerprint import SeriesCharacteristics
from stan_ct.ct.slice_spectra import FREQUENCY, SliceSpectra, mean_spectra, slice_spectra, spectra_of_parts
from stan_ct.ct.spectra import cross_power, radial_sums
from stan_ct.dicom.acceptance import check_axial
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.find import find_series
from stan_ct.dicom.plausibility import implausible_hu
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles, load_series

MOST_SERIES = 4
"""Largest number of series of a patient that are measured."""


@dataclass(frozen=True)
class Patient:
    """Series of one patient in one kernel.

    Attributes:
        name: Patient ID, or Study Instance UID where it is empty.
        kernel: Convolution Kernel (0018,1210).
        series: The series, those of most slices first.
        chosen: For each of them, the slices that are measured.
    """

    name: str
    kernel: str
    series: tuple[SeriesFiles, ...]
    chosen: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Measured:
    """What was measured of a patient.

    Attributes:
        spectra: Mean spectra of the slices.
        each: Spectra of the single slices; of parts of the slice where there is one alone.
        ceiling: (len(FREQUENCY),) amplitude spectrum of whole slices, as filters limit it, HU mm.
        characteristics: Headers and noise of each series, for the guard.
        dose: Exposure (0018,1152), mAs, of each series that states it.
        lowest: Lowest HU.
        clipped: Share of the pixels that have it.
        slices: SOP Instance UIDs of the slices.
    """

    spectra: SliceSpectra
    each: tuple[SliceSpectra, ...]
    ceiling: np.ndarray
    characteristics: tuple[SeriesCharacteristics, ...]
    dose: tuple[float, ...]
    lowest: float
    clipped: float
    slices: tuple[str, ...]


def find_patients(trees: Sequence[str], slices: int, progress: Callable = lambda paths: paths) -> dict[str, list[Patient]]:
    """The patients of a site by kernel, kernels and patients in ascending order.

    Series that are not axial are left out. A patient of several series in a kernel counts once.

    Args:
        trees: Trees of DICOM.
        slices: Largest number of slices of a patient that are chosen, evenly spread.
        progress: Wrapper of the iteration over files, such as `tqdm`.
    Raises:
        OSError: If a tree does not exist.
    """
    groups: dict[tuple[str, str], dict[tuple[str, int], SeriesFiles]] = defaultdict(dict)
    for tree in trees:
        for files in find_series(Path(tree), progress=progress).series:
            try:
                check_axial(files.first)
            except Refused:
                continue
            groups[files.kernel, files.patient][files.uid, files.grid] = files
    found: dict[str, list[Patient]] = defaultdict(list)
    for (kernel, name), series in sorted(groups.items()):
        most = sorted(series.values(), key=lambda files: (-len(files.instances), files.uid, files.grid))[:MOST_SERIES]
        each = -(-slices // len(most))
        chosen = tuple(_spread(len(files.instances), each) for files in most)
        found[kernel].append(Patient(name, kernel, tuple(most), chosen))
    return dict(found)


def _spread(count: int, number: int) -> tuple[int, ...]:
    """The middles of `number` equal parts of a series, or all of its slices."""
    number = min(count, number)
    return tuple(int((i + 0.5) * count / number) for i in range(number))


def measure(patient: Patient, curve: RadialFilter | None = None) -> Measured | None:
    """Reads the chosen slices of a patient, filters them and measures what comes out.

    Args:
        patient: The patient.
        curve: Filter of the slices; None to measure them as they are.
    Returns:
        What was measured; None if no slice can be read, shows enough soft tissue, and holds HU.
    """
    spectra, uids, values, ceiling, number = [], [], [], np.zeros(len(FREQUENCY)), np.zeros(len(FREQUENCY))
    characteristics, dose = [], []
    for files, chosen in zip(patient.series, patient.chosen, strict=True):
        few = replace(files, instances=tuple(files.instances[z] for z in chosen))
        try:
            series = load_series(few, workers=1)
        except Refused:
            continue
        if implausible_hu(series.volume, series.padding):
            continue
        if curve is None:
            characteristics.append(series_characteristics(series))
            dose += _exposure(series)
        for z, instance in enumerate(series.instances):
            hu, outside = _seen(series, z, curve)
            found = slice_spectra(hu, outside, files.pixel_spacing)
            if found is None:
                continue
            spectra.append(found)
            single = hu, outside
            uids.append(instance.uid)
            values.append(series.volume[z][~outside])
            sums = radial_sums(cross_power(hu, hu, files.pixel_spacing), files.pixel_spacing, FREQUENCY, hu.shape)
            ceiling, number = ceiling + sums[0], number + sums[1]
    if not spectra:
        return None
    amplitude = np.sqrt(np.interp(FREQUENCY, FREQUENCY[number > 0], (ceiling / np.maximum(number, 1))[number > 0]))
    lowest = float(min(part.min() for part in values))
    clipped = float(np.mean([np.mean(part <= lowest) for part in values]))
    each = spectra if len(spectra) > 1 else spectra_of_parts(*single, patient.series[0].pixel_spacing)
    return Measured(
        mean_spectra(spectra), tuple(each), amplitude, tuple(characteristics), tuple(dose), lowest, clipped, tuple(uids)
    )


def _seen(series: Series, z: int, curve: RadialFilter | None) -> tuple[np.ndarray, np.ndarray]:
    """A slice as filters see it, perhaps filtered, and what lies outside its field of view."""
    outside = outside_field_of_view(series.volume[z], series.padding[z])
    hu = continue_smoothly(series.volume[z], outside)
    return (hu if curve is None else curve(hu, series.files.pixel_spacing)), outside


def _exposure(series: Series) -> list[float]:
    """Exposure of the first slice, mAs, if it is stated."""
    try:
        value = float(series.files.first.get("Exposure", "nan"))
    except (TypeError, ValueError):
        return []
    return [value] if value > 0 else []


def clipping_floor_of(measured: Sequence[Measured], least: float) -> float | None:
    """HU at which the files of a site clip: the lowest of all, if it is at or below air and many pixels have it.

    Args:
        measured: Patients of the site.
        least: Least share of the pixels, over the patients that have this HU.
    """
    lowest = min(each.lowest for each in measured)
    share = max(each.clipped for each in measured if each.lowest == lowest)
    return lowest if lowest <= HIGHEST_FLOOR and share >= least else None
