"""Manual quality control (paper Step 4): radiologists compare two kinds of images blinded, in one HTML page.

`write_reader_study` writes the page and its key; `read_answers` joins the page's CSV files and the key again.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import secrets
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from stan_ct.ct.display_windows import DISPLAY_WINDOWS
from stan_ct.files import write_together

TEMPLATE = Path(__file__).with_suffix(".html")
WINDOWS = tuple((name.capitalize(), round(w.width), round(w.center)) for name, w in DISPLAY_WINDOWS.items())
"""Window presets of keys 1, 2, 3: name, width and level in HU."""

SIDES = ("left", "right")
QUALITY = ("1", "2", "3", "4", "5")
ARTEFACTS = ("none", "minor", "major")
CHOICES = {
    "quality_left": QUALITY,
    "quality_right": QUALITY,
    "artefacts_left": ARTEFACTS,
    "artefacts_right": ARTEFACTS,
    "standard": (*SIDES, "cannot tell"),
    "same": ("same", "different"),
    "preference": (*SIDES, "none"),
}
"""Question -> possible answers."""

COLUMNS = ("study", "reader", "case", *CHOICES, "comment")


@dataclass(frozen=True, eq=False)
class Case:
    """Images of two kinds for a reader to compare.

    Attributes:
        name: Name, which only the key holds.
        images: Kind, such as "synthesized" and "target" -> volume, (Z, H, W) HU, both on one grid. They are shown rounded to
            whole HU, less than a gray level of any window of at least 256 HU.
        pixel_spacing: (row, column) spacing, mm.
    Raises:
        ValueError: If there are not two images of one shape with finite values within 16 bits.
    """

    name: str
    images: Mapping[str, np.ndarray]
    pixel_spacing: tuple[float, float]

    def __post_init__(self) -> None:
        shapes = [np.shape(hu) for hu in self.images.values()]
        if len(shapes) != 2 or len(set(shapes)) != 1 or len(shapes[0]) != 3 or 0 in shapes[0]:
            raise ValueError(f"case {self.name!r}: expected two images (Z, H, W) of one shape, got {shapes}")
        for kind, hu in self.images.items():
            if not (np.isfinite(hu).all() and np.max(hu) <= 32767 and np.min(hu) >= -32768):
                worst = hu.flat[np.abs(hu).argmax()]
                raise ValueError(f"case {self.name!r}: {kind} holds values that are no HU, such as {worst}")
        if min(self.pixel_spacing) <= 0:
            raise ValueError(f"case {self.name!r}: expected a pixel spacing above 0 mm, got {self.pixel_spacing}")


@dataclass(frozen=True, eq=False)
class Trial:
    """One page of the study: a case, its role ("trial", "repeat" or "catch"), and the kinds on the left and on the right."""

    case: Case
    role: str
    kinds: tuple[str, str]


def deal(cases: Sequence[Case], repeats: int, catch_trials: int, rng: np.random.Generator) -> list[Trial]:
    """The pages of a study in the order they are shown.

    Args:
        cases: Cases; half of them (within one) get their first kind on the left, the others on the right.
        repeats: Number of cases, drawn at random, that are shown again with sides swapped.
        catch_trials: Number of cases, drawn at random, that are shown again with one kind on both sides.
        rng: Random numbers.
    Returns:
        Trials in random order, no case directly after itself if possible; a repeat may come before what it repeats.
    Raises:
        ValueError: If there are no cases, or fewer than repeats or catch trials.
    """
    if not 0 <= max(repeats, catch_trials) <= len(cases) or min(repeats, catch_trials) < 0 or not cases:
        raise ValueError(f"{repeats} repeats and {catch_trials} catch trials need as many cases, got {len(cases)}")
    swap = rng.permutation((np.arange(len(cases)) + rng.integers(2)) % 2)
    trials = [Trial(c, "trial", _ordered(c, bool(s))) for c, s in zip(cases, swap, strict=True)]
    repeated = [trials[i] for i in rng.choice(len(cases), repeats, replace=False)]
    caught = [cases[i] for i in rng.choice(len(cases), catch_trials, replace=False)]
    trials += [Trial(t.case, "repeat", (t.kinds[1], t.kinds[0])) for t in repeated]
    trials += [Trial(c, "catch", (kind, kind)) for c in caught for kind in [tuple(c.images)[rng.integers(2)]]]
    for _ in range(1000):
        order = [trials[i] for i in rng.permutation(len(trials))]
        if all(a.case is not b.case for a, b in pairwise(order)):
            break
    return order


def _ordered(case: Case, swapped: bool) -> tuple[str, str]:
    """Kinds on the left and on the right."""
    first, second = case.images
    return (second, first) if swapped else (first, second)


def encode(hu: np.ndarray) -> str:
    """HU (Z, H, W) -> base64 of raw deflate: differences along rows, signs folded, low bytes before high bytes."""
    difference = np.diff(np.rint(hu).astype(np.int16), axis=2, prepend=np.int16(0))  # wraps, as its inverse does
    folded = ((difference << 1) ^ (difference >> 15)).astype(np.uint16)  # 0, -1, 1, -2 ... -> 0, 1, 2, 3 ...
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    planes = (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()
    return base64.b64encode(squeeze.compress(planes) + squeeze.flush()).decode()


def write_reader_study(
    cases: Sequence[Case],
    output_dir: Path,
    standard: str = "target",
    repeats: int = 0,
    catch_trials: int = 0,
    seed: int | None = None,
) -> tuple[Path, Path]:
    """Writes the page for the readers, and the key to keep from them.

    Args:
        cases: Cases; they may be of different pairs of kinds.
        output_dir: Folder, created if needed.
        standard: Kind of the standard protocol.
        repeats: Number of cases that are shown again with sides swapped (agreement of readers with themselves).
        catch_trials: Number of cases that are shown again with one kind on both sides (attention of a reader).
        seed: Seed that makes the same study again; None draws one. It is kept in the key, since the key follows from it.
    Returns:
        `reader-study-ID.html` and `reader-study-ID-key.json`.
    Raises:
        ValueError: If two cases share a name, no image is of the standard kind, or as in :func:`deal`.
        OSError: If the directory cannot be written.
    """
    if repeated := [name for name, n in Counter(case.name for case in cases).items() if n > 1]:
        raise ValueError(f"names of cases must differ, got twice: {', '.join(repeated)}")
    if not any(standard in case.images for case in cases):
        raise ValueError(f"no case holds an image of the standard kind {standard!r}")
    seed = secrets.randbits(64) if seed is None else seed
    rng = np.random.default_rng(seed)
    trials = deal(cases, repeats, catch_trials, rng)
    ids = [f"{number:06x}" for number in rng.choice(16**6, len(trials), replace=False)]
    images = "\n".join(_images(trial, name) for trial, name in zip(trials, ids, strict=True))
    study = hashlib.sha256(f"{seed} {images}".encode()).hexdigest()[:10]
    shown = [_shown(trial, name) for trial, name in zip(trials, ids, strict=True)]
    content = {"study": study, "windows": WINDOWS, "choices": CHOICES, "columns": COLUMNS, "cases": shown}
    head, tail = TEMPLATE.read_text(encoding="utf-8").split("<!-- study -->")
    page = f'{head}<script type="application/json" id="study">{json.dumps(content)}</script>\n{images}{tail}'
    hidden = [{"name": trial.case.name, "role": trial.role, "kinds": trial.kinds} for trial in trials]
    key = {"study": study, "standard": standard, "seed": seed, "cases": dict(zip(ids, hidden, strict=True))}
    names = (f"reader-study-{study}.html", f"reader-study-{study}-key.json")
    write_together(output_dir, dict(zip(names, (page, json.dumps(key, indent=2) + "\n"), strict=True)))
    return output_dir / names[0], output_dir / names[1]


def _images(trial: Trial, name: str) -> str:
    pairs = zip(SIDES, trial.kinds, strict=True)
    return "\n".join(f'<script type="text/plain" id="{name}-{s}">{encode(trial.case.images[k])}</script>' for s, k in pairs)


def _shown(trial: Trial, name: str) -> dict:
    return {"id": name, "shape": np.shape(trial.case.images[trial.kinds[0]]), "spacing": trial.case.pixel_spacing}


@dataclass(frozen=True)
class Answer:
    """Answers of a reader to one trial, joined with the key.

    Attributes:
        reader: Reader's initials.
        case: Identifier of the trial in the page.
        name: Name of the case.
        role: "trial", "repeat" or "catch".
        kinds: Kinds on the left and on the right.
        truth: Side of the standard kind; empty unless exactly one side is of that kind.
        said: Question -> answer.
        comment: Comment.
    """

    reader: str
    case: str
    name: str
    role: str
    kinds: tuple[str, str]
    truth: str
    said: Mapping[str, str]
    comment: str

    def of(self, question: str, kind: str) -> str:
        """Answer to "quality" or "artefacts" for a kind."""
        return self.said[f"{question}_{SIDES[self.kinds.index(kind)]}"]

    def unblinded(self, question: str) -> str:
        """Answer to a question on both sides; a side is replaced by its kind."""
        said = self.said[question]
        return self.kinds[SIDES.index(said)] if said in SIDES else said


def read_answers(csv_paths: Iterable[Path], key_path: Path) -> list[Answer]:
    """Joins the answers that readers saved from the page and the key.

    Args:
        csv_paths: Files of the same study, one a reader.
        key_path: The key that was written with the page.
    Returns:
        One answer per reader and case.
    Raises:
        ValueError: If a file is not of this study, a case is missing, unknown or answered twice, or an answer is not a choice.
        OSError: If a file cannot be read.
    """
    key = json.loads(Path(key_path).read_text(encoding="utf-8"))
    if not {"study", "standard", "cases"} <= set(key):
        raise ValueError(f"{key_path} is no key of a reader study: expected reader-study-ID-key.json")
    answers = [answer for path in csv_paths for answer in _read_csv(Path(path), key)]
    counts = Counter((answer.reader, answer.case) for answer in answers)
    if twice := [f"{reader} {case}" for (reader, case), n in counts.items() if n > 1]:
        raise ValueError(f"answered twice (reader, case): {', '.join(twice)}: keep one file per reader")
    for reader in sorted({reader for reader, _ in counts}):
        if missing := [case for case in key["cases"] if (reader, case) not in counts]:
            raise ValueError(f"reader {reader} has no answer to {len(missing)} cases: {', '.join(missing)}")
    return answers


def _read_csv(path: Path, key: dict) -> list[Answer]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV of the reader study: {error}") from error
    if not rows or set(rows[0]) != set(COLUMNS):
        came = ",".join(map(str, rows[0])) if rows else "no rows"
        raise ValueError(f"{path}: expected the columns {','.join(COLUMNS)}, got {came}")
    return [_answer(row, f"{path}, row {number}", key) for number, row in enumerate(rows, 2)]


def _answer(row: dict, place: str, key: dict) -> Answer:
    if row["study"] != key["study"]:
        raise ValueError(f"{place}: the answers are to study {row['study']!r}, the key is of {key['study']!r}")
    if row["case"] not in key["cases"]:
        raise ValueError(f"{place}: study {key['study']} has no case {row['case']!r}")
    if not row["reader"]:
        raise ValueError(f"{place}: the reader's initials are missing")
    for question, choices in CHOICES.items():
        if row[question] not in choices:
            raise ValueError(f"{place}: {question} is {row[question]!r}, expected one of {', '.join(choices)}")
    hidden = key["cases"][row["case"]]
    sides = [side for side, kind in zip(SIDES, hidden["kinds"], strict=True) if kind == key["standard"]]
    truth = sides[0] if len(sides) == 1 else ""
    said, kinds = {question: row[question] for question in CHOICES}, tuple(hidden["kinds"])
    return Answer(row["reader"], row["case"], hidden["name"], hidden["role"], kinds, truth, said, row["comment"] or "")
