"""`evaluate.py --reader_study` and `--reader_answers`: series -> a blinded page, answers -> what the readers found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import Instance
from stan_ct.evaluation.measure.pairs import find_pairs, load_slices
from stan_ct.evaluation.measure.series import Settings
from stan_ct.evaluation.readers.answers import reader_statistics
from stan_ct.evaluation.readers.page import Case, read_answers, write_reader_study
from stan_ct.evaluation.readers.tables import markdown
from stan_ct.files import write_together


def make_study(settings: Settings, output_dir: Path, cases: int, slices: int, seed: int | None = None) -> tuple[Path, Path]:
    """Writes the page and its key: what was made of the source beside the target or, where there is none, beside the source.

    Args:
        settings: Which series; the first synthesized one is shown.
        output_dir: Where both go.
        cases: How many, at most; spread over the series.
        slices: Neighbouring slices of one series that make a case; fewer where there are no more.
        seed: Gives the same study again; None draws one, which the key holds.
    Returns:
        The page and the key.
    Raises:
        NotComparable: If no slice has its partners.
        Refused: If the pixels of a slice cannot be read.
        ValueError: If no series was synthesized.
    """
    if not settings.synthesized:
        raise ValueError("a reader study shows what was made of the source: give --synthesized_dir")
    name, folder = next(iter(settings.synthesized.items()))
    other, shown = "target" if settings.target_dir else "source", replace(settings, synthesized={name: folder})
    pairing = find_pairs(shown.source_dir, shown.others, shown.only_instances)
    parts = [part for stack in pairing.stacks for part in _parts(stack, slices)]
    chosen = [parts[round(i)] for i in np.linspace(0, len(parts) - 1, min(cases, len(parts)))]
    made = [_case(number, part, name, other) for number, part in enumerate(chosen, 1)]
    return write_reader_study(made, output_dir, standard=other, seed=seed)


def _parts(stack: Sequence, size: int) -> list[Sequence]:
    """Parts of this size, one after the other; what is left over is left out, unless there is nothing else."""
    return [stack[i : i + size] for i in range(0, max(len(stack) - size, 0) + 1, size)]


def _case(number: int, part: Sequence[Mapping[str, Instance]], name: str, other: str) -> Case:
    """The images of both kinds, (Z, H, W) HU."""
    loaded = [load_slices({kind: place[kind] for kind in (name, other)}) for place in part]
    images = {kind: np.concatenate([series[kind].volume for series in loaded]) for kind in (name, other)}
    row, column = dicom.vector(part[0]["source"].header, "PixelSpacing")
    return Case(f"case {number}", images, (float(row), float(column)))


def find_answers(csv_paths: Sequence[str], key: str | None, output_dir: Path) -> str:
    """Reads the readers' answers; writes and returns `readers.md`.

    Raises:
        ValueError: If there is no key, or a file is not of this study.
        OSError: If a file cannot be read.
    """
    if not key:
        raise ValueError("--reader_answers needs --reader_key, the JSON file that was written beside the page")
    text = markdown(reader_statistics(read_answers(map(Path, csv_paths), Path(key))))
    write_together(output_dir, {"readers.md": text})
    return text
