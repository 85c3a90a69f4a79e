"""Which slices a model was trained on: short hashes of their UIDs, which records and model folders carry."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from stan_ct.dicom.series import Instance
from stan_ct.patches.pairs import SeriesPair

DIGITS = 12
"""Hexadecimal digits of a hash: a slice is mistaken for one of a million others once in 280 million times."""

TRAINING = ("train", "validation")
"""Parts of the records that a model has seen: it is trained on the one and chosen on the other."""

Seen = Literal["train", "validation", "series", "study", ""]
"""What a model has seen: the slice itself, in training or validation; some slices of its series; some of its study; nothing."""


def uid_hash(uid: object) -> str:
    """The first `DIGITS` hexadecimal digits of a UID's SHA-256.

    Example:
        >>> uid_hash("1.2.3")
        'c47f5b18b8a4'
    """
    return hashlib.sha256(str(uid).strip(" \0").encode()).hexdigest()[:DIGITS]


@dataclass(frozen=True)
class TrainingSlices:
    """What a model has seen in training, as hashes of UIDs, see :func:`uid_hash`.

    Attributes:
        train: Slices, of source and target, that it was trained on.
        validation: Slices that its best version was chosen on.
        study: Studies of both.
        series: Series of both, of a model that does not know its slices.
    """

    train: frozenset[str] = frozenset()
    validation: frozenset[str] = frozenset()
    study: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()

    def __or__(self, other: TrainingSlices) -> TrainingSlices:
        """What either of two models has seen, such as a model and the one that its training started from."""
        return TrainingSlices(*(getattr(self, field.name) | getattr(other, field.name) for field in fields(self)))

    def of(self, instance: Instance) -> Seen:
        """What the model has seen of a slice."""
        slice_hash, header = uid_hash(instance.uid), instance.header
        if slice_hash in self.train:
            return "train"
        if slice_hash in self.validation:
            return "validation"
        if uid_hash(header.get("SeriesInstanceUID")) in self.series:
            return "series"
        return "study" if uid_hash(header.get("StudyInstanceUID")) in self.study else ""

    def to_text(self) -> str:
        """A line for each hash: what it is of, and the hash."""
        return "".join(f"{field.name} {value}\n" for field in fields(self) for value in sorted(getattr(self, field.name)))

    @classmethod
    def from_text(cls, text: str) -> TrainingSlices:
        """What :meth:`to_text` wrote.

        Raises:
            ValueError: If a line is no such line.
        """
        found: dict[str, set[str]] = {field.name: set() for field in fields(cls)}
        pattern = re.compile(rf"({'|'.join(found)}) ([0-9a-f]{{{DIGITS}}})")
        for number, line in enumerate(text.splitlines(), 1):
            if not (match := pattern.fullmatch(line)):
                raise ValueError(f"line {number} is {line[:40]!r}, expected one of {', '.join(found)}, and {DIGITS} digits")
            found[match[1]].add(match[2])
        return cls(**{name: frozenset(values) for name, values in found.items()})

    @classmethod
    def from_index(cls, index: Mapping[str, Any]) -> TrainingSlices:
        """What a model sees that is trained on records with this index; of an earlier version's only the series are known."""
        if "instances" not in index:
            return cls.from_pairs(index["pairs"])
        slices = {part: frozenset(index["instances"].get(part, "").split()) for part in TRAINING}
        return cls(**slices, study=frozenset(index["studies"].split()))

    @classmethod
    def from_pairs(cls, pairs: object) -> TrainingSlices:
        """The series in the provenance of records, of which earlier versions recorded no slices."""
        listed = [p for p in pairs if isinstance(p, Mapping)] if isinstance(pairs, Sequence) else []
        sides = [pair.get(side) for pair in listed if pair.get("split") in TRAINING for side in ("source", "target")]
        return cls(series=frozenset(uid_hash(s["series_uid"]) for s in sides if isinstance(s, Mapping) and s.get("series_uid")))


def describe_slices(parts: Mapping[str, Iterable[SeriesPair]]) -> dict[str, Any]:
    """Entries of the index: `instances`, hashes of each part's slices, and `studies`, those of the studies seen in training.

    Args:
        parts: Part -> its pairs.
    """
    pairs = {part: list(found) for part, found in parts.items()}
    uids = {part: {uid for pair in found for uid in _instance_uids(pair)} for part, found in pairs.items()}
    studies = {files.study_uid for part in TRAINING for pair in pairs.get(part, ()) for files in (pair.source, pair.target)}
    return {"instances": {part: _joined(found) for part, found in uids.items()}, "studies": _joined(studies)}


def _instance_uids(pair: SeriesPair) -> Iterable[str]:
    for z, t in pair.slices:
        yield from (pair.source.instances[z].uid, pair.target.instances[t].uid)


def _joined(uids: Iterable[str]) -> str:
    return " ".join(sorted(map(uid_hash, uids)))
