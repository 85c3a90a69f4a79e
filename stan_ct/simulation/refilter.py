"""Real series in other kernels: the ratio of two curves as a filter. No noise is added and no detail is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stan_ct.ct.derived import Derivation, write_series
from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.identity import creation_time, free_series_number
from stan_ct.ct.kernels import Kernel
from stan_ct.ct.refusal import Refused
from stan_ct.ct.series import Series, SeriesFiles, find_series, load_series

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
        series: A sharp, thin series; padding is left as it is.
        source: The series' kernel.
        target: Kernel wanted.
        max_gain: See :func:`kernel_ratio`.
    Note:
        Sharper than the source is a guess: what the source's kernel has taken away, and its noise hides, stays away.
    """
    ratio = kernel_ratio(source, target, max_gain)
    slices = (ratio(image, series.files.pixel_spacing) for image in series.volume)
    return np.where(series.padding, series.volume, np.stack(list(slices)))


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

    Args:
        input_dir: Tree of DICOM.
        output_dir: OUT.
        kernels: Kernels wanted; the source's own is left out.
        source: Kernel of all series; None: the one of `table` that their headers name.
        table: Name -> kernel.
        max_gain: See :func:`kernel_ratio`.
        say: Told what happens to each series.
        dry_run: Only say it.
    Returns:
        The folders written (or that would be).
    Raises:
        FileNotFoundError: If `input_dir` does not exist.
        ValueError: If a name of a kernel is unknown.
    """
    inventory = find_series(input_dir, exclude=[output_dir])
    taken = {files.number for files in inventory.series if files.number is not None}
    folders = []
    for files in inventory.series:
        kernel = source or table.get(files.kernel)
        if kernel is None:
            say(f"  left out: {files.name}: its kernel {files.kernel!r} is not known; name its curve with --input_kernel")
            continue
        wanted = [target for target in kernels if target != kernel]
        targets = [(target, output_dir / "series" / f"{files.name}_{target.name}") for target in wanted]
        for target, _ in targets:
            say(f"  {files.name}: {files.kernel}, taken for {_curve(kernel)} -> {_curve(target)}")
        if not dry_run:
            _write(files, kernel, targets, max_gain, taken, say)
        folders += [folder for _, folder in targets if dry_run or folder.exists()]
    return folders


def _write(
    files: SeriesFiles,
    kernel: Kernel,
    targets: list[tuple[Kernel, Path]],
    max_gain: float,
    taken: set[int],
    say: Callable[[str], None],
) -> None:
    try:
        series = load_series(files)
    except Refused as refused:
        say(f"  refused: {files.name}: {refused}")
        return
    for refusal in series.refusals:
        say(f"  refused: {', '.join(path.name for path in refusal.paths)}: {refusal.reason}: {refusal.found}")
    for target, folder in targets:
        number = free_series_number(files.number, taken)
        taken.add(number)
        write_series(series, refilter(series, kernel, target, max_gain), folder, derivation(kernel, target, max_gain), number)


def derivation(source: Kernel, target: Kernel, max_gain: float) -> Derivation:
    """What the headers say. Convolution Kernel names the kernel simulated, as in a simulated patient's series."""
    told = f"Simulated: re-filtered by STAN-CT from {_curve(source)} to {_curve(target)}; gain at most {max_gain:g}"
    return Derivation(
        target=f"simulated {target.name}",
        model="kernel simulator",
        key=json.dumps([asdict(source), asdict(target), max_gain]),
        sharpening=target.f50 > source.f50,
        created=creation_time(),
        description=told,
        attributes=(("ConvolutionKernel", target.name), ("ImageComments", f"{told}. Kernel curves are estimates.")),
    )


def _curve(kernel: Kernel) -> str:
    return f"{kernel.name} (f50 {kernel.f50:g}, f10 {kernel.f10:g} lp/cm)"
