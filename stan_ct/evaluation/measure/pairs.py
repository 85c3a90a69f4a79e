"""Which slice is compared with which: slices of one study in one place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stan_ct.dicom import header as dicom
from stan_ct.dicom.series import Instance, Series, SeriesFiles, find_series, load_series
from stan_ct.errors import NotComparable

IN_PLANE, ALONG_NORMAL = 0.01, 0.1
"""How far apart slices in one place may be, mm."""

SAME_GRID = 1e-5, 1e-3
"""How much pixel spacing (mm) and direction cosines of slices on one grid may differ."""


@dataclass(frozen=True)
class Pairing:
    """The slices to compare, in the order of the source series.

    Attributes:
        stacks: Runs of neighbouring slices of one source series; of each place the slice of every image, by name, `source`
            first.
        left_out: Reason -> how many slices or files were left out for it.
    """

    stacks: tuple[tuple[Mapping[str, Instance], ...], ...]
    left_out: Counter

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


def find_pairs(
    source_dir: Path,
    others: Mapping[str, Path],
    only_instances: Iterable[str] | None = None,
    progress: Callable = lambda items: items,
) -> Pairing:
    """Finds the slices of other directories that lie where each source slice does.

    All belong to one study, so the directories alone tell who is who. Slices belong together which share the Study
    Instance UID, the matrix, the pixel spacing, the orientation, and the position within 0.01 mm in the plane and 0.1 mm
    along its normal.

    Args:
        source_dir: Directory of one or several series; so are the others.
        others: Name -> directory: `target`, the standard protocol, and what was made of the source under any other name;
            in these alone slices written by STAN-CT are read.
        only_instances: SOP Instance UIDs of the source slices to compare (the held-back ones); None for all.
        progress: Wraps the iteration over files, such as `tqdm`.
    Returns:
        At least one place.
    Raises:
        FileNotFoundError: If a directory does not exist.
        NotComparable: If no source slice has all partners, or one has several in the same directory.
    """
    left_out = Counter()
    series = _find(source_dir, "source", left_out, progress)
    number = {i.uid: (n, z) for n, files in enumerate(series) for z, i in enumerate(files.instances)}
    places = {name: _Places(_slices(_find(root, name, left_out, progress)), root) for name, root in others.items()}
    sources = _restrict(_slices(series), only_instances, source_dir, left_out)
    own_places, together = _Places(sources, source_dir), []
    for source in sources:
        own_places.partner(source)  # two source slices in one place would share their partners
        found = {"source": source} | {name: of.partner(source) for name, of in places.items()}
        missing = [name for name, instance in found.items() if instance is None]
        if missing:
            left_out[f"source slices without {' and '.join(missing)} in their place"] += 1
        else:
            together.append(found)
    if not together:
        raise NotComparable(_why_none(sources, *places.values()))
    return Pairing(_stacks(together, [number[found["source"].uid] for found in together]), left_out)


def read_instances(path: Path) -> frozenset[str]:
    """The SOP Instance UIDs in a text file, one a line.

    Raises:
        NotComparable: If it holds none.
    """
    uids = frozenset(Path(path).read_text().split())
    if not uids:
        raise NotComparable(f"{path} lists no SOP Instance UID: one a line is expected")
    return uids


def _find(root: Path, role: str, left_out: Counter, progress: Callable) -> list[SeriesFiles]:
    inventory = find_series(root, progress=progress, accept_standardized=role not in ("source", "target"))
    refused = Counter()
    for refusal in inventory.refusals:
        refused[refusal.reason] += len(refusal.paths)
    left_out.update({f"{role} files refused: {reason}": count for reason, count in refused.items()})
    if not inventory.series:
        came = ", ".join(f"{count} x {what}" for what, count in (inventory.passed_over + refused).items()) or "no files"
        raise NotComparable(f"expected a CT series in the {role} directory {root}, found {came}: give another directory")
    return inventory.series


def _slices(series: Iterable[SeriesFiles]) -> list[Instance]:
    return [instance for files in series for instance in files.instances]


def _stacks(together: list[Mapping[str, Instance]], numbers: list[tuple[int, int]]) -> tuple[tuple, ...]:
    """Parts the places where the next one is of another series, or not the next slice; numbers are (series, slice)."""
    stacks: list[list[Mapping[str, Instance]]] = []
    for place, (series, z), before in zip(together, numbers, [None, *numbers], strict=False):
        if before != (series, z - 1):
            stacks.append([])
        stacks[-1].append(place)
    return tuple(map(tuple, stacks))


def _restrict(sources: list[Instance], only: Iterable[str] | None, root: Path, left_out: Counter) -> list[Instance]:
    if only is None:
        return sources
    only = set(only)
    kept = [source for source in sources if source.uid in only]
    if not kept:
        raise NotComparable(f"none of the {len(only)} SOP Instances to restrict to is in {root}: list slices of the source")
    left_out["source slices not among the instances to compare"] += len(sources) - len(kept)
    left_out["instances to compare that are no source slices"] += len(only) - len(kept)
    return kept


class _Places:
    """The slices of one directory, to be found by study, grid and position."""

    def __init__(self, instances: list[Instance], root: Path) -> None:
        self.root, self.instances = root, instances
        groups = defaultdict(list)
        for instance in instances:
            groups[_matrix(instance)].append(instance)
        self._groups = {key: (found, np.stack([_geometry(i) for i in found])) for key, found in groups.items()}

    def partner(self, of: Instance) -> Instance | None:
        """The one slice in the same place, or None.

        Raises:
            NotComparable: If there are several.
        """
        found, geometry = self._groups.get(_matrix(of), ((), np.empty((0, 11))))
        mine = _geometry(of)
        row, column = mine[3:9].reshape(2, 3)
        offset = (geometry[:, :3] - mine[:3]) @ np.stack([row, column, np.cross(row, column)], axis=1)  # (n, 3) mm
        fits = (np.abs(offset) <= [IN_PLANE, IN_PLANE, ALONG_NORMAL]).all(axis=1)
        fits &= (np.abs(geometry[:, 3:] - mine[3:]) <= [SAME_GRID[1]] * 6 + [SAME_GRID[0]] * 2).all(axis=1)
        candidates = [found[i] for i in np.flatnonzero(fits)]
        if len(candidates) > 1:
            raise NotComparable(
                f"{self.root} holds {len(candidates)} slices in the place of {of.path}: "
                f"{', '.join(str(c.path) for c in candidates[:4])}. Expected one: leave only the series to compare there"
            )
        return candidates[0] if candidates else None


def _matrix(instance: Instance) -> tuple[str, int, int]:
    return str(instance.header.StudyInstanceUID), int(instance.header.Rows), int(instance.header.Columns)


def _geometry(instance: Instance) -> np.ndarray:
    """(11,): position mm, direction cosines of row and column, pixel spacing mm."""
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return np.concatenate([dicom.vector(instance.header, keyword) for keyword in keywords])


def _why_none(sources: list[Instance], *others: _Places) -> str:
    studies = {_matrix(source)[0] for source in sources}
    for places in others:
        if studies.isdisjoint(_matrix(i)[0] for i in places.instances):
            return f"{places.root} holds no slice of the source's study {min(studies)}: give directories of the same study"
    spans = "; ".join(f"{places.root}: {_span(places.instances)}" for places in others)
    return (
        "no source slice has a partner everywhere. Expected: the same matrix, pixel spacing, orientation and position. "
        f"Came: source: {_span(sources)}; {spans}. Give series reconstructed from the same scan on the same grid"
    )


def _span(instances: list[Instance]) -> str:
    first, locations = instances[0], [i.location for i in instances]
    spacing = "/".join(f"{mm:g}" for mm in dicom.vector(first.header, "PixelSpacing"))
    corner = ", ".join(f"{mm:g}" for mm in first.position[:2])
    return (
        f"{len(instances)} slices of {first.header.Rows} x {first.header.Columns} at {spacing} mm, "
        f"corner ({corner}) mm, from {min(locations):g} to {max(locations):g} mm along the normal"
    )
