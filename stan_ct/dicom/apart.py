"""Inputs are only read: no output lies among their files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stan_ct.dicom import header as dicom
from stan_ct.errors import UsageError


def check_apart(output_dir: Path | str, inputs: Iterable[Path | str]) -> None:
    """Refuses an output directory that is an input, or a folder in one that holds DICOM.

    Args:
        output_dir: The output directory, which need not exist. In an input it may lie, in a folder of its own.
        inputs: Trees of DICOM.
    Raises:
        UsageError: If outputs would lie among the files of an input.
    """
    output, trees = Path(output_dir).resolve(), [Path(tree).resolve() for tree in inputs]
    if output in trees or (any(tree in output.parents for tree in trees) and _holds_dicom(output)):
        raise UsageError(f"--output_dir={output_dir} is a folder of an input, and inputs are only read: choose another one")


def _holds_dicom(folder: Path) -> bool:
    """Whether a folder holds a file of DICOM, those of its folders aside."""
    try:
        return any(path.is_file() and dicom.looks_like_dicom(path) for path in folder.iterdir())
    except OSError:  # it does not exist, or cannot be read, and then not be written either
        return False
