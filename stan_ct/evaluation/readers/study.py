"""Reader study of series: the blinded page, and the statistics of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import Instance
from stan_ct.errors import UsageError
from stan_ct.evaluation.measure.pairs import find_pairs, load_slices
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.readers.answers import reader_statistics
from stan_ct.evaluation.readers.page import Case, read_answers, write_reader_study
from stan_ct.evaluation.readers.tables import markdown
from stan_ct.files import write_together


@dataclass(frozen=True)
class StudySettings:
    """Size and randomness of a reader study.

    Attributes:
        cases: Largest number of cases, spread over the series.
        slices: Number of neighbouring slices of one series that make a case; fewer if a series has fewer.
        repeats: Number of cases that are shown again with sides swapped, for the agreement of readers with themselves.
        catch_trials: Number of cases that are shown again with the same image on both sides, which readers should notice.
        seed: Seed that makes the same study again; None draws one, which the key holds.
    """

    cases: int = 20
    slices: int = 5
    repeats: int = 0
    catch_trials: int = 0
    seed: int | None = None


def make_study(series: SeriesSettings, output_dir: Path, settings: StudySettings) -> tuple[Path, Path]:
    """Writes the page and its key: the synthesized series beside the target or, without a target, beside the source.

    Args:
        series: Series; the first synthesized one is shown.
        output_dir: Folder for both files.
        settings: Size and randomness of the study.
    Returns:
        The page and the key.
    Raises:
        NotComparable: If no slice has its partners.
        Refused: If the pixels of a slice cannot be read.
        UsageError: If there is no synthesized series.
        ValueError: If there are fewer cases than repeats or catch trials.
    """
    if not series.synthesized:
        raise UsageError("a reader study shows what was made of the source: give --synthesized_dir")
    name, folder = next(iter(series.synthesized.items()))
    other = "target" if series.target_dir else "source"
    others = {name: folder} | ({"target": series.target_dir} if series.target_dir else {})
    pairing = find_pairs(series.source_dir, others, series.only_instances, pair_by=series.pair_by)
    parts = [part for stack in pairing.stacks for part in _parts(stack, settings.slices)]
    chosen = [parts[round(i)] for i in np.linspace(0, len(parts) - 1, min(settings.cases, len(parts)))]
    cases = [_case(number, part, name, other) for number, part in enumerate(chosen, 1)]
    return write_reader_study(cases, output_dir, other, settings.repeats, settings.catch_trials, settings.seed)


def _parts(stack: Sequence, size: int) -> list[Sequence]:
    """Consecutive parts of this size; a smaller rest is dropped, unless it is the only part."""
    return [stack[i : i + size] for i in range(0, max(len(stack) - size, 0) + 1, size)]


def _case(number: int, part: Sequence[Mapping[str, Instance]], name: str, other: str) -> Case:
    """Case with the images of both kinds, (Z, H, W) HU."""
    loaded = [load_slices({kind: place[kind] for kind in (name, other)}) for place in part]
    images = {kind: np.concatenate([series[kind].volume for series in loaded]) for kind in (name, other)}
    row, column = dicom.vector(part[0]["source"].header, "PixelSpacing")
    return Case(f"case {number}", images, (float(row), float(column)))


def summarize_answers(csv_paths: Sequence[Path | str], key: Path | str | None, output_dir: Path) -> str:
    """Reads the readers' answers, and writes their statistics to `readers.md`.

    Args:
        csv_paths: CSV files that readers saved from the page.
        key: Key file of the study.
        output_dir: Folder for `readers.md`.
    Returns:
        Text of `readers.md`.
    Raises:
        UsageError: If there is no key.
        ValueError: If a file is not of this study.
        OSError: If a file cannot be read.
    """
    if not key:
        raise UsageError("--reader_answers needs --reader_key, the JSON file that was written beside the page")
    text = markdown(reader_statistics(read_answers(map(Path, csv_paths), Path(key))))
    write_together(output_dir, {"readers.md": text})
    return text
