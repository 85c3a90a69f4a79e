"""`reconstruct.py`, from the input directory to the summary."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from stan_ct.dicom.find import Inventory, find_series
from stan_ct.errors import UsageError
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.settings import FusionMethod


def reconstruct(
    input_dir: Path,
    output_dir: Path,
    model: Path,
    fusion: FusionMethod = "stan_ct",
    switches: dict | None = None,
    precision: str = "auto",
    dry_run: bool = False,
    allow_out_of_protocol: bool = False,
    command: str = "",
) -> int:
    """Standardizes every CT series below a directory.

    Args:
        input_dir: Series, study, any tree; or one file.
        output_dir: Directory for series, manifest and report; not searched for sources.
        model: Model folder, or name of a model that ships.
        fusion: Method, a row of the paper's Table 2.
        switches: Overrides of the method's settings; None leaves the method's own.
        precision: Number type of the networks' hidden layers.
        dry_run: Whether to list only what would be done.
        allow_out_of_protocol: Whether to go on with series that the model was not made for.
        command: Command line, for the manifest.
    Returns:
        Exit code: 0 all good, 2 some series or slices were refused or failed, 3 no series was standardized.
    Raises:
        UsageError: If the input does not exist, the output cannot be used, or there is no such model.
    """
    from stan_ct.reconstruction.cohort import REPORT, Outcome, Run, check_output, standardize_cohort

    try:
        inventory = find_series(input_dir, exclude=[output_dir], progress=lambda p: _bar(p, "reading headers", "file"))
    except OSError as error:
        raise UsageError(str(error)) from error
    check_output(output_dir, input_dir, inventory)
    print(f"{input_dir}: {len(inventory.series)} CT series, {inventory.slices} slices")
    _print_skipped(inventory)
    if dry_run:
        for series in inventory.series:
            print(f"  {series.name}: kernel {series.kernel}, {' x '.join(map(str, series.shape))} -> {output_dir / 'series'}")
        return Outcome([], inventory.refusals).exit_code if not inventory.series else 2 if inventory.refusals else 0
    with quiet_start():
        from stan_ct.reconstruction.standardize import load_model

        loaded = load_model(model, precision=precision, fusion=fusion, **(switches or {}))
    run = Run(output_dir, loaded, command, allow_out_of_protocol)
    try:
        outcome = standardize_cohort(inventory, run, _bar, tqdm.write)
    except OSError as error:  # manifest or report
        raise UsageError(f"the output could not be written: {error}. Free space, or choose another --output_dir") from error
    written, alone = (sum(r.status == status for r in outcome.records) for status in ("written", "left_alone"))
    left = f", {alone} left alone" if alone else ""
    print(f"{written} of {len(outcome.records)} series written{left}. Report: {output_dir / REPORT}")
    return outcome.exit_code


def _print_skipped(inventory: Inventory) -> None:
    for kind, count in sorted(inventory.passed_over.items()):
        print(f"  passed over: {count} x {kind}")
    for refusal in inventory.refusals:
        names = ", ".join(path.name for path in refusal.paths[:3])
        print(f"  refused: {names}: {refusal.reason}: {refusal.found}. {refusal.advice}")


def _bar(items: Iterable, description: str, unit: str = "slice") -> Iterable:
    """A progress bar, on terminals only."""
    return tqdm(items, desc=description, unit=unit, leave=False, disable=None)
