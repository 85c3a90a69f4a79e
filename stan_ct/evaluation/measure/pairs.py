"""Pairing for evaluation: slices of one study in the same place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from stan_ct.dicom import header as dicom
from stan_ct.dicom.find import find_series
from stan_ct.dicom.positions import SlicePositions
from stan_ct.dicom.series import Instance, Series, SeriesFiles, load_series
from stan_ct.errors import NotComparable
from stan_ct.patches.pairs import ANONYMOUS, APART, PairBy, same_acquisition


@dataclass(frozen=True)
class Pairing:
    """The slices to compare, in the order of the source series.

    Attributes:
        stacks: Runs of neighbouring slices of one source series; of each place the slice of every image, by name, `source`
            first.
        excluded: Reason -> number of slices or files excluded for it.
        without: SOP Instance UID of a source slice -> names of the images that have no slice in its place.
    """

    stacks: tuple[tuple[Mapping[str, Instance], ...], ...]
    excluded: Counter[str]
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def together(self) -> tuple[Mapping[str, Instance], ...]:
        """All places."""
        return tuple(place for stack in self.stacks for place in stack)


def load_slices(together: Mapping[str, Instance]) -> dict[str, Series]:
    """Reads the slices of one place, each as a series of one.

    Raises:
        Refused: If the pixels of one cannot be read.
    """
    return {name: load_series(SeriesFiles((instance,)), workers=1) for name, instance in together.items()}


@dataclass(frozen=True)
class Headers:
    """The headers of a directory, read once; several comparisons may share them.

    Attributes:
        root: The directory.
        series: CT series in the directory.
        rejected: Reason -> number of files that cannot be used.
    """

    root: Path
    series: tuple[SeriesFiles, ...]
    rejected: Mapping[str, int]

    @property
    def instances(self) -> list[Instance]:
        """All slices."""
        return [instance for files in self.series for instance in files.instances]


def read_headers(root: Path, name: str, progress: Callable = lambda items: items) -> Headers:
    """Reads the headers of a directory of series.

    Args:
        root: The directory.
        name: `source`, `target`, or anything else for what was made of the source; only there are slices written by
            STAN-CT accepted.
        progress: Wraps the iteration over files, such as `tqdm`.
    Raises:
        FileNotFoundError: If the directory does not exist.
        NotComparable: If it holds no CT series.
    """
    inventory = find_series(root, progress=progress, accept_standardized=name not in ("source", "target"))
    rejected: Counter[str] = Counter()
    for refusal in inventory.refusals:
        rejected[refusal.reason] += len(refusal.paths)
    if not inventory.series:
        came = ", ".join(f"{count} x {what}" for what, count in (inventory.skipped + rejected).items()) or "no files"
        raise NotComparable(f"expected a CT series in the {name} directory {root}, found {came}: give another directory")
    return Headers(Path(root), tuple(inventory.series), rejected)


def find_pairs(
    source: Path | Headers,
    others: Mapping[str, Path | Headers],
    only_instances: Iterable[str] | None = None,
    progress: Callable = lambda items: items,
    pair_by: PairBy = "study",
) -> Pairing:
    """Finds the slices of other directories that lie where each source slice does.

    All belong to one study, so the directories alone tell who is who. Slices belong together which share the Study
    Instance UID, the pixel grid and the position (:mod:`stan_ct.dicom.positions`); by position, for series that were
    de-identified apart, those of any studies that share grid, position and, where they state it, the acquisition.

    Args:
        source: Directory of one or several series, or its headers if they have been read; so are the others.
        others: Name -> directory: `target`, the standard protocol, and what was made of the source under any other name;
            in these alone slices written by STAN-CT are read.
        only_instances: SOP Instance UIDs of the source slices to compare (the held-back ones); None for all.
        progress: Wraps the iteration over files, such as `tqdm`.
        pair_by: `study`, or `position` for series of one scan that were de-identified apart.
    Returns:
        The pairing, with at least one place.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If no source slice has all partners, or one has several in the same directory.
    """
    named = {"source": source, **others}
    headers = {name: d if isinstance(d, Headers) else read_headers(d, name, progress) for name, d in named.items()}
    excluded: Counter[str] = Counter()
    for name, read in headers.items():
        excluded.update({f"{name} files refused: {reason}": count for reason, count in read.rejected.items()})
    number = {i.uid: (n, z) for n, files in enumerate(headers["source"].series) for z, i in enumerate(files.instances)}
    sources = _restrict(headers["source"], only_instances, excluded)
    places = {name: _Places(read, read.instances, headers["source"], pair_by) for name, read in headers.items()}
    places["source"] = _Places(headers["source"], sources, headers["source"], pair_by)  # refuses two in one place
    without: dict[str, tuple[str, ...]] = {}
    together = list(_complete(sources, places, without))
    excluded.update(f"source slices without {' and '.join(names)} in their place" for names in without.values())
    if not together:
        if pair_by == "study" and (stranger := _of_another_study(sources, [places[name] for name in others])):
            apart = f". {APART}" if _pairs_by_position(headers, sources) else ""
            raise NotComparable(f"{stranger}: give directories of the same study{apart}")
        raise NotComparable(_why_none(sources, [places[name] for name in others], pair_by))
    return Pairing(_stacks(together, [number[found["source"].uid] for found in together]), excluded, without)


def _complete(
    sources: Iterable[Instance], places: Mapping[str, _Places], without: dict[str, tuple[str, ...]]
) -> Iterator[Mapping[str, Instance]]:
    """The slice of every directory in the place of each source slice; where one is missing, `without` tells which."""
    for source in sources:
        found = {name: directory.partner(source) for name, directory in places.items()}
        if missing := [name for name, instance in found.items() if instance is None]:
            without[source.uid] = tuple(missing)
        else:
            yield {name: instance for name, instance in found.items() if instance is not None}


def read_instances(path: Path) -> frozenset[str]:
    """The SOP Instance UIDs in a text file, one a line.

    Raises:
        NotComparable: If it holds none.
    """
    uids = frozenset(Path(path).read_text().split())
    if not uids:
        raise NotComparable(f"{path} lists no SOP Instance UID: one a line is expected")
    return uids


def _stacks(together: list[Mapping[str, Instance]], numbers: list[tuple[int, int]]) -> tuple[tuple, ...]:
    """Parts the places where the next one is of another series, or not the next slice; numbers are (series, slice)."""
    stacks: list[list[Mapping[str, Instance]]] = []
    for place, (series, z), before in zip(together, numbers, [None, *numbers], strict=False):
        if before != (series, z - 1):
            stacks.append([])
        stacks[-1].append(place)
    return tuple(map(tuple, stacks))


def _restrict(source: Headers, only: Iterable[str] | None, excluded: Counter[str]) -> list[Instance]:
    if only is None:
        return source.instances
    only = set(only)
    kept = [instance for instance in source.instances if instance.uid in only]
    if not kept:
        raise NotComparable(
            f"none of the {len(only)} SOP Instances to restrict to is in {source.root}: list slices of the source"
        )
    excluded["source slices not among the instances to compare"] += len(source.instances) - len(kept)
    excluded["instances to compare that are no source slices"] += len(only) - len(kept)
    return kept


class _Places:
    """The slices of one directory, found by study, grid and position; or by grid, position and acquisition.

    Args:
        headers: The directory.
        instances: Its slices to find.
        source: Directory of the slices whose partners are asked for.
        pair_by: `study` or `position`.
    """

    def __init__(self, headers: Headers, instances: Sequence[Instance], source: Headers, pair_by: PairBy) -> None:
        self.root, self.instances, self._by_position = headers.root, instances, pair_by == "position"
        self._studies: dict[str, list[Instance]] = defaultdict(list)
        for instance in self.instances:
            self._studies[self._key(instance)].append(instance)
        self._positions = {study: SlicePositions(found) for study, found in self._studies.items()}
        self._own, self._theirs = (
            {instance.path: n for n, files in enumerate(each.series) for instance in files.instances}
            for each in (headers, source)
        )
        self._same = cache(lambda n, m: same_acquisition(source.series[n], headers.series[m], ANONYMOUS))

    def _key(self, instance: Instance) -> str:
        return "" if self._by_position else _study(instance)

    def partner(self, of: Instance) -> Instance | None:
        """The one slice in the same place, or None.

        Raises:
            NotComparable: If there are several.
        """
        study = self._key(of)
        if study not in self._positions:
            return None
        candidates = [self._studies[study][i] for i in self._positions[study].at(of)]
        if self._by_position:
            candidates = [c for c in candidates if self._same(self._theirs[of.path], self._own[c.path])]
        if len(candidates) > 1:
            one = "one patient's" if self._by_position else "the"
            raise NotComparable(
                f"{self.root} holds {len(candidates)} slices in the place of {of.path}: "
                f"{', '.join(str(c.path) for c in candidates[:4])}. Expected one: leave only {one} series to compare there"
            )
        return candidates[0] if candidates else None


def _study(instance: Instance) -> str:
    return str(instance.header.StudyInstanceUID)


def _of_another_study(sources: Sequence[Instance], others: Sequence[_Places]) -> str:
    """Names the first directory without a slice of the sources' studies; empty if there is none."""
    studies = {_study(source) for source in sources}
    strangers = (places.root for places in others if studies.isdisjoint(map(_study, places.instances)))
    return next((f"{root} holds no slice of the source's study {min(studies)}" for root in strangers), "")


def _pairs_by_position(headers: Mapping[str, Headers], sources: Sequence[Instance]) -> bool:
    """Whether a source slice would have all partners if they were found by position."""
    places = {name: _Places(read, read.instances, headers["source"], "position") for name, read in headers.items()}
    try:
        return any(True for _ in _complete(sources, places, {}))
    except NotComparable:
        return False


def _why_none(sources: Sequence[Instance], others: Sequence[_Places], pair_by: PairBy) -> str:
    spans = "; ".join(f"{places.root}: {_span(places.instances)}" for places in others)
    acquisition = ", and one acquisition where it is stated" if pair_by == "position" else ""
    return (
        f"no source slice has a partner everywhere. Expected: the same matrix, pixel spacing, orientation and position"
        f"{acquisition}. Came: source: {_span(sources)}; {spans}. Give series reconstructed from the same scan on the same grid"
    )


def _span(instances: Sequence[Instance]) -> str:
    first, locations = instances[0], [i.location for i in instances]
    spacing = "/".join(f"{mm:g}" for mm in dicom.vector(first.header, "PixelSpacing"))
    corner = ", ".join(f"{mm:g}" for mm in first.position[:2])
    return (
        f"{len(instances)} slices of {first.header.Rows} x {first.header.Columns} at {spacing} mm, "
        f"corner ({corner}) mm, from {min(locations):g} to {max(locations):g} mm along the normal"
    )
