"""A request to standardize a cohort: directories, models and choices, and where each output goes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stan_ct.dicom.series import SeriesFiles
from stan_ct.reconstruction.selection import ModelSet

SERIES, INCOMPLETE, REPLACED = "series", ".incomplete", ".replaced"
"""Folder of the outputs, folder of those under way, and end of the name of an output that is being replaced."""
NIFTI = "nifti"
"""Folder of the volumes that are written as NIfTI too."""


@dataclass(frozen=True)
class Run:
    """A request to standardize a cohort.

    Attributes:
        input_dir: Directory, or file, of the sources.
        output_dir: Directory of `series/`, `series.csv`, `manifest.json` and `report.html`.
        models: Models to choose from.
        command: Command line, for the manifest.
        allow_out_of_protocol: Whether to go on with series that no model was made for.
        flat: Whether series lie side by side, rather than as in the input.
        overwrite: Whether to replace series that were made with other settings.
        show_identifiers: Whether manifest, report and table name source files and Patient IDs.
        archive: The archive from which the sources were unpacked, if they were.
    """

    input_dir: Path
    output_dir: Path
    models: ModelSet
    command: str = ""
    allow_out_of_protocol: bool = False
    flat: bool = False
    overwrite: bool = False
    show_identifiers: bool = False
    archive: Path | None = None

    def folder_of(self, files: SeriesFiles) -> str:
        """Folder of a derived series relative to the output directory: `series`, the source's folder in the input, a name."""
        return "/".join((SERIES, *(() if self.flat else source_folder(files, self.input_dir).parts), files.name))

    @cached_property
    def input_id(self) -> str:
        """SHA-256 of the path of the input: tells outputs of this input from those of another one, and names nobody."""
        return hashlib.sha256(os.fsencode((self.archive or self.input_dir).resolve())).hexdigest()


def source_folder(files: SeriesFiles, input_dir: Path) -> Path:
    """Folder that holds all slices of a series, relative to the input."""
    folders = {instance.path.parent for instance in files.instances}
    common = Path(os.path.commonpath(folders)) if len(folders) > 1 else folders.pop()
    return common.relative_to(input_dir) if common.is_relative_to(input_dir) else Path()
