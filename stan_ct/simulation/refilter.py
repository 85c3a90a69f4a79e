"""Real series in other kernels: the ratio of two curves as a filter. No noise is added and no detail is made."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.kernels import Kernel
from stan_ct.dicom.apart import check_apart
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.find import Inventory, find_series
from stan_ct.dicom.header import stored_range
from stan_ct.dicom.identity import creation_time, derived_series_uid, free_series_number
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles, load_series
from stan_ct.dicom.write import write_series
from stan_ct.simulation.kept_series import KeptSeries, is_kept, output_hashes, read_kept, source_hashes, write_kept

NO_CT_NUMBER = -1100.0
"""HU below this are padding, declared as such or not."""

NOTHING = 1e-3
"""Below this amplitude the source holds nothing that a gain could bring back."""


def kernel_ratio(source: Kernel, target: Kernel, max_gain: float, bins: int = 193) -> RadialFilter:
    """The filter M_target / M_source, at most `max_gain`.

    Args:
        source: Kernel of the series.
        target: Kernel wanted.
        max_gain: Where the target is sharper than the source, noise and rounding would be lifted without bound.
        bins: Points of the curve, from 0 to 24 lp/cm.
    """
    frequency = np.linspace(0, 24, bins)
    gain = np.minimum(target.mtf(frequency) / np.maximum(source.mtf(frequency), NOTHING), max_gain)
    return RadialFilter(tuple(frequency.tolist()), tuple(gain.tolist()))


def refilter(series: Series, source: Kernel, target: Kernel, max_gain: float = 3.0) -> np.ndarray:
    """A series as another kernel would show it, (Z, H, W) float32 HU.

    Args:
        series: A sharp, thin series; padding, and values that are padding in all but name, are left as they are.
        source: The series' kernel.
        target: Kernel wanted.
        max_gain: See :func:`kernel_ratio`.
    Note:
        Sharper than the source is a guess: what the source's kernel has taken away, and its noise hides, stays away.
    """
    ratio = kernel_ratio(source, target, max_gain)
    slices = (ratio(image, series.files.pixel_spacing) for image in series.volume)
    return np.where(series.padding | (series.volume < NO_CT_NUMBER), series.volume, np.stack(list(slices)))


def refilter_tree(
    input_dir: Path,
    output_dir: Path,
    kernels: Sequence[Kernel],
    source: Kernel | None,
    table: dict[str, Kernel],
    max_gain: float = 3.0,
    say: Callable[[str], None] = print,
    dry_run: bool = False,
) -> list[Path]:
    """Writes every CT series of a tree in other kernels, OUT/series/<name>_<kernel>/IM0001.dcm.

    A series that an earlier run made of the same files with the same curves is kept, and one that is made again keeps its
    Series Number, which belongs to its Series Instance UID.

    Args:
        input_dir: Tree of DICOM.
        output_dir: OUT; left out of the search.
        kernels: Kernels wanted; the source's own is left out.
        source: Kernel of all series; None: the one of `table` that their headers name.
        table: Name -> kernel.
        max_gain: See :func:`kernel_ratio`.
        say: Told what happens to each series.
        dry_run: Only say it.
    Returns:
        The folders written or kept (or that would be).
    Raises:
        FileNotFoundError: If `input_dir` does not exist.
        UsageError: If `output_dir` is a folder of the input.
        ValueError: If `source` is to stand for series of several kernels.
    """
    check_apart(output_dir, [input_dir])
    inventory = find_series(input_dir, exclude=[output_dir])
    found = sorted({files.kernel for files in inventory.series})
    if source and len(found) > 1:
        raise ValueError(
            f"{input_dir} holds series of kernels {', '.join(found)}, and --input_kernel is the curve of one: choose a folder "
            "with one kernel"
        )
    output, folders = _Output(output_dir, inventory, say), []
    for files in inventory.series:
        kernel = source or table.get(files.kernel)
        if kernel is None:
            say(f"  left out: {files.name}: its kernel {files.kernel!r} is not known; name its curve with --input_kernel")
            continue
        for target in kernels:
            if (target.f50, target.f10, target.overshoot) == (kernel.f50, kernel.f10, kernel.overshoot):
                continue
            say(f"  {files.name}: {files.kernel}, taken for {_curve(kernel)} -> {_curve(target)}")
            folder = output.folder_of(files, target)
            if dry_run or output.make(files, kernel, target, max_gain):
                folders.append(folder)
    return folders


class _Output:
    """The output directory: what it holds of earlier runs, and which Series Numbers are taken.

    Args:
        output_dir: OUT.
        inventory: What is to be re-filtered.
        say: Told what happens to each series.
    """

    def __init__(self, output_dir: Path, inventory: Inventory, say: Callable[[str], None]) -> None:
        self._output_dir, self._say = output_dir, say
        written = find_series(output_dir) if output_dir.exists() else Inventory()
        self._numbers = {series.uid: series.number for series in (*inventory.series, *written.series)}
        self._taken: dict[str, set[int]] = defaultdict(set)
        for study, numbers in (*inventory.series_numbers.items(), *written.series_numbers.items()):
            self._taken[study].update(numbers)
        self._kept = read_kept(output_dir)

    def folder_of(self, files: SeriesFiles, target: Kernel) -> Path:
        """Folder of a series in another kernel."""
        return self._output_dir / "series" / f"{files.name}_{target.name.replace('/', '-')}"

    def make(self, files: SeriesFiles, kernel: Kernel, target: Kernel, max_gain: float) -> bool:
        """Writes a series, or keeps it; False if it cannot be read, or written."""
        folder, derived = self.folder_of(files, target), derivation(files.kernel, kernel, target, max_gain)
        kept, key = self._kept.get(folder.name), f"{__version__} {derived.key}"
        if is_kept(kept, key, files, folder):
            self._say("    kept: an earlier run made it")
            return True
        if kept is not None and kept.key != key and folder.exists():
            self._say(
                f"    refused: {folder} was made with another curve, gain or version: remove it, or choose another --output_dir"
            )
            return False
        try:
            sources = source_hashes(files)
            self._write(files, kernel, target, max_gain, derived)
        except Refused as refused:
            self._say(f"    refused: {files.name}: {refused}")
            return False
        self._kept[folder.name] = KeptSeries(key, sources, output_hashes(folder))
        write_kept(self._output_dir, self._kept)
        return True

    def _write(self, files: SeriesFiles, kernel: Kernel, target: Kernel, max_gain: float, derived: Derivation) -> None:
        series = load_series(files)
        for refusal in series.refusals:
            self._say(f"    refused: {', '.join(path.name for path in refusal.paths)}: {refusal.reason}: {refusal.found}")
        volume = refilter(series, kernel, target, max_gain)
        _tell_clipped(series, volume, self._say)
        number = self._series_number(files, derived.key)
        write_series(series, volume, self.folder_of(files, target), derived, number)

    def _series_number(self, files: SeriesFiles, key: str) -> int:
        """The number that the series has already, here or among the sources, or else a free one."""
        taken = self._taken[files.study_uid]
        number = self._numbers.get(derived_series_uid(files, key)) or free_series_number(files.number, taken)
        taken.add(number)
        return number


def _tell_clipped(series: Series, volume: np.ndarray, say: Callable[[str], None]) -> None:
    """Says how many pixels do not fit the range that the source's headers can store."""
    header = series.files.first
    ends = (value * float(header.RescaleSlope) + float(header.RescaleIntercept) for value in stored_range(header))
    low, high = sorted(ends)
    share, before = (np.mean((v < low) | (v > high)) for v in (volume, series.volume))
    if share - before > 0.01:
        say(f"    {share:.0%} of the pixels leave {low:g} to {high:g} HU, which the source can store, and are clipped")


def derivation(named: str, source: Kernel, target: Kernel, max_gain: float) -> Derivation:
    """Derivation for the headers. Convolution Kernel names the kernel simulated, as in a simulated patient's series."""
    description = (
        f"Simulated: re-filtered by STAN-CT from kernel {named}, taken for {_curve(source)}, to {_curve(target)}; gain at most "
        f"{max_gain:g}"
    )
    return Derivation(
        target=f"simulated {target.name}",
        model="kernel simulator",
        key=json.dumps([asdict(source), asdict(target), max_gain]),
        sharpening=target.f50 > source.f50,
        created=creation_time(),
        description=description,
        contribution="CT kernel simulation",
        attributes=(
            ("ConvolutionKernel", target.name.replace("/", "\\")),
            ("ImageComments", f"{description}. Kernel curves are estimates."),
        ),
    )


def _curve(kernel: Kernel) -> str:
    return f"{kernel.name} (f50 {kernel.f50:g}, f10 {kernel.f10:g} lp/cm)"
