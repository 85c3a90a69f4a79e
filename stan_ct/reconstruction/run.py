"""What `reconstruct.py` does, from the input directory to the summary."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from stan_ct.dicom.series import Inventory, find_series
from stan_ct.errors import UsageError
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.cohort import REPORT, Model, Outcome, OutputError, Run, check_output, standardize_cohort
from stan_ct.reconstruction.guard import Guard
from stan_ct.reconstruction.settings import FusionMethod, method_settings


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
        input_dir: A series, a study, any tree; or one file.
        output_dir: Where series, manifest and report go; left out of the search.
        model: Model folder.
        fusion: Method.
        switches: Overrides of the method's settings; None leaves the method's own.
        precision: Number type of the networks' hidden layers.
        dry_run: Only say what would be done.
        allow_out_of_protocol: Go on with series that the model was not made for.
        command: The command line, for the manifest.
    Returns:
        The exit code: 0 all good, 2 some series or slices refused or failed, 3 no series has the standard protocol now.
    Raises:
        UsageError: If the input does not exist, the output cannot be used, or the model is none.
    """
    try:
        inventory = find_series(input_dir, exclude=[output_dir], progress=lambda p: _bar(p, "reading headers", "file"))
        check_output(output_dir, input_dir, inventory)
    except (OutputError, OSError) as error:
        raise UsageError(str(error)) from error
    print(f"{input_dir}: {len(inventory.series)} CT series, {inventory.slices} slices")
    _print_left_out(inventory)
    if dry_run:
        for series in inventory.series:
            print(f"  {series.name}: kernel {series.kernel}, {' x '.join(map(str, series.shape))} -> {output_dir / 'series'}")
        return Outcome([], inventory.refusals).exit_code if not inventory.series else 2 if inventory.refusals else 0
    run, synthesizer = _prepare(output_dir, model, fusion, switches or {}, precision, allow_out_of_protocol, command)
    try:
        outcome = standardize_cohort(inventory, synthesizer, run, _bar, tqdm.write)
    except OSError as error:  # manifest or report
        raise UsageError(f"the output could not be written: {error}. Free space, or choose another --output_dir") from error
    written, alone = (sum(r.status == status for r in outcome.records) for status in ("written", "left_alone"))
    left = f", {alone} left alone" if alone else ""
    print(f"{written} of {len(outcome.records)} series written{left}. Report: {output_dir / REPORT}")
    return outcome.exit_code


def _prepare(
    output_dir: Path, folder: Path, fusion: FusionMethod, switches: dict, precision: str, allow: bool, command: str
) -> tuple:
    """The run and its synthesizer. TensorFlow is imported here, after the input has been checked."""
    with quiet_start():
        from stan_ct.models.folder import find_model, model_hash, read_config
        from stan_ct.networks.precision import compute_dtype
        from stan_ct.reconstruction.synthesis import load_synthesizer

        compute_dtype("auto")  # looks for GPUs

    try:
        folder = find_model(folder)
        config = read_config(folder)
        chosen = {"qc_threshold": config.qc_threshold, **{k: v for k, v in switches.items() if v is not None}}
        settings = method_settings(fusion, **chosen)
        resolved = compute_dtype(precision).removeprefix("mixed_")
        synthesizer = load_synthesizer(folder, resolved)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error
    model = Model(config.name, model_hash(folder), config.source_kernel, config.target_kernel, config.sharpens)
    guard = Guard(config.sources, config.standard, allow)
    return Run(output_dir, model, settings, resolved, command, guard), synthesizer


def _print_left_out(inventory: Inventory) -> None:
    for kind, count in sorted(inventory.passed_over.items()):
        print(f"  passed over: {count} x {kind}")
    for refusal in inventory.refusals:
        names = ", ".join(path.name for path in refusal.paths[:3])
        print(f"  refused: {names}: {refusal.reason}: {refusal.found}. {refusal.advice}")


def _bar(items: Iterable, description: str, unit: str = "slice") -> Iterable:
    """A progress bar, on terminals only."""
    return tqdm(items, desc=description, unit=unit, leave=False, disable=None)
