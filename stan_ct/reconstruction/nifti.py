"""NIfTI files as a source: their slices go through the pipeline as DICOM, and the result lies beside as NIfTI too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.dicom.archive import hidden_folder
from stan_ct.dicom.find import find_series
from stan_ct.dicom.nifti import NotEven, of_nifti, write_series, write_slices_of, write_volume
from stan_ct.dicom.nifti_files import is_nifti, read_sidecar, stem
from stan_ct.dicom.refusal import Refusal, Refused
from stan_ct.dicom.series import Series, load_series
from stan_ct.errors import UsageError
from stan_ct.files import write_atomically
from stan_ct.reconstruction.accounts import Record
from stan_ct.reconstruction.manifest import printable
from stan_ct.reconstruction.preparation import ReconstructSettings
from stan_ct.reconstruction.request import NIFTI


@contextmanager
def converted(settings: ReconstructSettings, files: Sequence[Path]) -> Iterator[tuple[ReconstructSettings, list[Refusal]]]:
    """Context in which the slices of NIfTI files lie as DICOM in a hidden folder beside the output.

    Args:
        settings: The request.
        files: NIfTI files of its input.
    Yields:
        The request for that folder, and the files that were refused.
    Raises:
        UsageError: If a kernel is not stated, nibabel is missing, or shards or other slices are asked for.
    """
    if settings.shard:
        raise UsageError("shards cannot share NIfTI files: give each of them files of its own")
    if settings.slice_thickness:
        raise UsageError("--slice_thickness makes slices between those of the source, which NIfTI input does not have")
    sidecars = {path: read_sidecar(path, settings.kernel) for path in files}
    root, refusals = settings.input_dir if settings.input_dir.is_dir() else settings.input_dir.parent, []
    with hidden_folder(settings.output_dir.resolve(), "slices") as folder:
        for path, sidecar in sidecars.items():
            place = folder / path.relative_to(root).with_name(stem(path))
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                if place.exists():
                    raise Refused("conflicting_instances", f"{stem(path)}.nii and {stem(path)}.nii.gz")
                write_slices_of(path, place, sidecar)
            except Refused as refused:
                refusals.append(Refusal(refused.reason, refused.found, (place / path.name,)))
        yield replace(settings, input_dir=folder, archive=settings.archive or settings.input_dir), refusals


def write_nifti(settings: ReconstructSettings, folder: Path, records: Sequence[Record]) -> None:
    """Writes `nifti/PATH/NAME.nii.gz` for each series that was made of a NIfTI file, on that file's grid.

    Args:
        settings: The request, with the NIfTI files as its input.
        folder: Folder of their slices.
        records: What became of the series.
    Raises:
        OSError: If it cannot be written.
    """
    root = settings.input_dir if settings.input_dir.is_dir() else settings.input_dir.parent
    for record in records:
        if record.status != "written" or not of_nifti(record.files.first):
            continue
        relative = record.files.instances[0].path.parent.relative_to(folder)
        source = next(p for p in (root / relative.parent).iterdir() if is_nifti(p) and stem(p) == relative.name)
        derived = _derived(settings, record)
        numbers = [int(instance.path.stem) for instance in record.files.instances]
        if derived.files.shape != record.files.shape:
            raise UsageError(f"{record.folder} has not the slices of {source.name}: remove it, and run the command again")
        hu = derived.volume.transpose(2, 1, 0)[:, :, np.argsort(numbers)]  # (Z, Y, X) -> (X, Y, Z), as in the file
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        _write(settings.output_dir, relative, record, derived.files.uid, partial(write_volume, source, hu), digest)


def write_nifti_of_dicom(settings: ReconstructSettings, records: Sequence[Record]) -> None:
    """Writes `nifti/PATH/NAME.nii.gz` for each series that was written, in the folders of `series/`.

    A series whose slices are not evenly spaced, which NIfTI cannot say, is named and left out.

    Args:
        settings: The request.
        records: What became of the series.
    Raises:
        OSError: If it cannot be written.
    """
    for record in records:
        if record.status != "written":
            continue
        derived, relative = _derived(settings, record), _below(record)
        try:
            write = partial(write_series, derived)
            _write(settings.output_dir, relative, record, derived.files.uid, write, "")
        except NotEven as error:
            print(f"{printable(relative)}: no NIfTI, {error}")
            _remove(settings.output_dir, relative)


def remove_outdated(settings: ReconstructSettings, records: Sequence[Record]) -> None:
    """Removes the volumes of earlier runs whose series were made anew by a run that writes no NIfTI.

    Args:
        settings: The request.
        records: What became of the series.
    Raises:
        OSError: If one cannot be removed.
    """
    for record in records:
        if record.status == "written" and not record.entry.get("kept"):
            _remove(settings.output_dir, _below(record))


def _below(record: Record) -> Path:
    """Folder of a derived series below `series/`."""
    return Path(*Path(record.folder).parts[1:])


def _remove(output_dir: Path, relative: Path) -> None:
    for ending in (".json", ".nii.gz"):
        (output_dir / NIFTI / relative.with_name(f"{relative.name}{ending}")).unlink(missing_ok=True)


def _derived(settings: ReconstructSettings, record: Record) -> Series:
    return load_series(find_series(settings.output_dir / record.folder, accept_standardized=True).series[0])


def _write(output_dir: Path, relative: Path, record: Record, uid: str, write: Callable[[Path], None], source: str) -> None:
    """Writes a volume, complete or not at all, and the JSON that tells of it."""
    place = output_dir / NIFTI / relative.with_name(f"{relative.name}.nii.gz")
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}")
    write(unfinished)
    about = {
        "Tool": f"STAN-CT {__version__}, research use only, not for diagnosis",
        **({"Source": source} if source else {}),
        "SHA256": hashlib.sha256(unfinished.read_bytes()).hexdigest(),
        "SourceConvolutionKernel": record.files.kernel,
        "SeriesInstanceUID": uid,
        "Series": record.folder if source else record.files.name,
        "Model": record.entry.get("model", ""),
        "Findings": record.entry.get("findings", {}),
    }
    write_atomically(place.with_name(f"{relative.name}.json"), json.dumps(about, indent=1) + "\n")
    unfinished.replace(place)
