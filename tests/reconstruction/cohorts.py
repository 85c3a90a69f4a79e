"""Cohorts that are standardized with scripted synthesizers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from synthesizers import scripted_model

from stan_ct.dicom.find import find_series
from stan_ct.reconstruction.cohort import Outcome, Run, check_output, standardize_cohort
from stan_ct.reconstruction.selection import ModelSet


def run_cohort(
    source: Path, output: Path, synthesizer: object | None = None, options: Mapping = MappingProxyType({}), **switches
) -> Outcome:
    """Standardizes a tree with a scripted synthesizer; `options` are those of the run, `switches` those of the pipeline."""
    inventory = find_series(source, exclude=[output])
    run = Run(source, output, ModelSet((scripted_model(synthesizer, **switches),)), "test", **options)
    check_output(run, inventory)
    return standardize_cohort(inventory, run, lambda s, _: s, lambda line: None)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for the accounts, which name seconds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.dcm"))}
