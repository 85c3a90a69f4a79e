"""Two reconstructions of one scan, paired slice by slice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stan_ct.ct.protocol import Protocol, same_thickness
from stan_ct.dicom.grouping import patient_key
from stan_ct.dicom.positions import SlicePositions
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.dicom.times import seconds
from stan_ct.errors import StanCTError
from stan_ct.patches.protocol import protocol_of
from stan_ct.patches.where import Condition

ACQUISITION = ("AcquisitionNumber", "IrradiationEventUID", "ContrastBolusAgent")
"""Attributes in which two reconstructions of one acquisition agree, where both state them."""
TIMES = ("AcquisitionDateTime", "AcquisitionTime")
"""Attributes whose times in two reconstructions of one acquisition lie in one span, where both state them."""
TIME_TOLERANCE = 1.0
"""Longest time between the spans, s: times are rounded, and thick slices are stamped at other times than thin ones."""

ANONYMOUS = ("AcquisitionNumber", "ContrastBolusAgent", "AcquisitionTime")
"""Those of them that are compared between series that were de-identified apart: UIDs and dates differ, times of day do not."""

APART = (
    "Series at the same positions differ in study, patient or frame of reference: if they are of one scan and were "
    "de-identified apart, give --pair_by=position"
)
"""Advice where series pair by position alone."""

Pairing = Literal["kernel", "standard"]
PairBy = Literal["study", "position"]


class PairingError(StanCTError, ValueError):
    """The series do not make the requested pairs; the message says what came and what to do."""


@dataclass(frozen=True)
class SeriesPair:
    """Source and target series of one study, and which of their slices show the same anatomy.

    Attributes:
        source: Non-standard protocol.
        target: Standard protocol.
        slices: (source z, target z) pairs.
    """

    source: SeriesFiles
    target: SeriesFiles
    slices: tuple[tuple[int, int], ...]

    def without(self, sources: Container[int], targets: Container[int]) -> SeriesPair:
        """The pair without some slices of the source, and of the target, by their numbers."""
        return replace(self, slices=tuple((z, t) for z, t in self.slices if z not in sources and t not in targets))


@dataclass(frozen=True)
class PairingRule:
    """Rule for the protocols that pair.

    Attributes:
        source_kernels: Convolution Kernels (0018,1210) of the non-standard protocols.
        target_kernel: Convolution Kernel of the standard protocol.
        pairing: `kernel`: a change of kernel at equal thickness. `standard`: source kernels of any thickness, and the
            target kernel at any other thickness, to the one standard protocol.
        target_thickness: Slice thickness of the standard protocol, mm, for `standard`; 0 for `kernel`.
        thicknesses: Slice thicknesses of the sources to use, mm; empty for all.
        source_where: Conditions on the headers of the sources; all must hold.
        target_where: Conditions on the headers of the targets; all must hold. Where sources and targets have the same kernel,
            and only one of the two is given, all other series of that kernel are on the other side.
    Raises:
        PairingError: If the rule contradicts itself.
    """

    source_kernels: tuple[str, ...]
    target_kernel: str
    pairing: Pairing = "kernel"
    target_thickness: float = 0.0
    thicknesses: tuple[float, ...] = ()
    source_where: tuple[Condition, ...] = ()
    target_where: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.pairing == "standard" and not self.target_thickness:
            raise PairingError("--pairing=standard needs the thickness of the standard protocol: give --target_thickness")
        if self.pairing == "kernel" and self.target_thickness:
            raise PairingError(
                f"--target_thickness={self.target_thickness:g} is for --pairing=standard; a change of kernel keeps the "
                "thickness: choose sources with --thicknesses"
            )
        if self.pairing == "kernel" and self.target_kernel in self.source_kernels and not self._apart:
            raise PairingError(
                f"--source_kernels and --target_kernel both name {self.target_kernel!r}: nothing would change, unless "
                "--source_where or --target_where tells the two protocols apart"
            )

    @property
    def _apart(self) -> bool:
        return bool(self.source_where or self.target_where)

    def __call__(self, source: Protocol, target: Protocol) -> bool:
        """Whether a series of one protocol is standardized to one of the other."""
        if target.kernel != self.target_kernel:
            return False
        if self.thicknesses and not any(same_thickness(source.thickness, t) for t in self.thicknesses):
            return False
        equal = same_thickness(source.thickness, target.thickness)
        if self.pairing == "kernel":
            return source.kernel in self.source_kernels and equal
        thinned = source.kernel == self.target_kernel and not equal
        return (source.kernel in self.source_kernels or thinned) and same_thickness(target.thickness, self.target_thickness)

    def select(self, series: Sequence[SeriesFiles]) -> tuple[list[SeriesFiles], list[SeriesFiles]]:
        """Series whose headers fulfil the conditions on sources, and those on targets.

        Raises:
            PairingError: If one of a kernel that both have fulfils both.
        """
        sources, targets = (
            [files for files in series if all(condition.holds(files) for condition in conditions)]
            for conditions in (self.source_where, self.target_where)
        )
        both = [files for files in sources if self._names_both(files) and any(files is target for target in targets)]
        if both and self.source_where and self.target_where:
            raise PairingError(
                f"series {both[0].uid} of kernel {both[0].kernel} fulfils --source_where={_joined(self.source_where)} and "
                f"--target_where={_joined(self.target_where)}: choose conditions that exclude each other"
            )
        taken = {id(files) for files in both}
        if self.source_where:
            return sources, [files for files in targets if id(files) not in taken]
        return [files for files in sources if id(files) not in taken], targets

    def _names_both(self, files: SeriesFiles) -> bool:
        """Whether a series is source and target by its kernel, so that conditions alone tell."""
        return self._apart and files.kernel == self.target_kernel in self.source_kernels

    def __str__(self) -> str:
        sources = " or ".join(map(repr, self.source_kernels)) + _where(self.source_where)
        target = f"{self.target_kernel!r}{_where(self.target_where)}"
        if self.pairing == "kernel":
            return f"kernel {sources} and one of {target} of the same thickness"
        return f"kernel {sources} and one of {target} {self.target_thickness:g} mm"


def _joined(conditions: Sequence[Condition]) -> str:
    return ",".join(map(str, conditions))


def _where(conditions: Sequence[Condition]) -> str:
    return f" where {' and '.join(map(str, conditions))}" if conditions else ""


def pair_slices(sources: Sequence[Instance], targets: Sequence[Instance]) -> tuple[tuple[int, int], ...]:
    """Pairs slices on the same grid and at the same position; positions that occur twice in a series pair with nothing.

    Args:
        sources: Slices of the source series.
        targets: Slices of the target series.
    Returns:
        (source index, target index), in the order of the sources.
    """
    source_positions, target_positions = SlicePositions(sources), SlicePositions(targets)
    found = []
    for z, source in enumerate(sources):
        matches = target_positions.at(source)
        if matches.size == 1 and source_positions.at(source).size == 1:
            found.append((z, int(matches[0])))
    return tuple(found)


def pair_series(series: Sequence[SeriesFiles], rule: PairingRule, pair_by: PairBy = "study") -> list[SeriesPair]:
    """Pairs series of source protocols with series of the target protocol on the same grid.

    Args:
        series: Series of any studies.
        rule: Rule for the protocols that pair.
        pair_by: `study`: series of one study, patient and frame of reference. `position`: where a source has no such target,
            also one of another study at the same positions, for series of one scan that were de-identified apart.
    Returns:
        The pairs that have slices at common positions, by study and source.
    Raises:
        PairingError: If there is none; or if positions alone do not tell which of several patients a series is of.
    """
    studies: dict[str, list[SeriesFiles]] = defaultdict(list)
    sources, targets = rule.select(series)
    for one in targets:
        studies[one.study_uid].append(one)
    anywhere = [one for one in targets if one.kernel == rule.target_kernel] if pair_by == "position" else []
    pairs: list[SeriesPair] = []
    for source in sources:
        found = _pairs_of(source, studies[source.study_uid], rule, "study")
        pairs += found or _pairs_of(source, anywhere, rule, "position")
    _check_one_scan_each(pairs)
    if not pairs:
        raise PairingError(_why_none(series, rule, pair_by))
    return pairs


def _pairs_of(source: SeriesFiles, targets: Sequence[SeriesFiles], rule: PairingRule, pair_by: PairBy) -> list[SeriesPair]:
    """The pairs of one source."""
    same = _same_scan if pair_by == "study" else _same_acquisition
    found = [t for t in targets if t is not source and rule(protocol_of(source), protocol_of(t)) and same(source, t)]
    slices = ((target, pair_slices(source.instances, target.instances)) for target in found)
    return [SeriesPair(source, target, both) for target, both in slices if both]


def _check_one_scan_each(pairs: Sequence[SeriesPair]) -> None:
    """Refuses a series that pairs by position with series of several studies: one of them may be of another patient."""
    for side, other in (("source", "target"), ("target", "source")):
        partners: dict[tuple[str, int], dict[tuple[str, str], SeriesFiles]] = defaultdict(dict)
        for pair in pairs:
            series, partner = getattr(pair, side), getattr(pair, other)
            partners[series.uid, series.grid][partner.study_uid, patient_key(partner.first)] = partner
        for (uid, _), studies in partners.items():
            if len(studies) > 1:
                folders = ", ".join(str(partner.instances[0].path.parent) for partner in studies.values())
                raise PairingError(
                    f"{side} series {uid} lies at the positions of {len(studies)} studies or patients: {folders}. Positions "
                    "alone do not tell which of them shows the same scan: give the series of one patient at a time"
                )


def _why_none(series: Sequence[SeriesFiles], rule: PairingRule, pair_by: PairBy) -> str:
    protocols = ", ".join(map(str, sorted({protocol_of(s) for s in series}))) or "none"
    asked = {condition.field: condition for condition in (*rule.source_where, *rule.target_where)}
    protocols += "".join(f"; {condition.describe(series)}" for condition in asked.values())
    holder = "no study holds a series" if pair_by == "study" else "there is no series"
    advice = "Choose with --source_kernels, --target_kernel, --pairing and --thicknesses."
    sources, targets = rule.select(series)
    if pair_by == "study" and any(_pairs_of(source, targets, rule, "position") for source in sources):
        advice += f" {APART}."
    return f"{holder} of {rule} with slices at the same positions; protocols found: {protocols}. {advice}"


def frame_of_reference(series: SeriesFiles) -> str:
    """Frame of Reference UID (0020,0052), empty where it is not stated."""
    return str(series.first.get("FrameOfReferenceUID", "") or "")


def _same_scan(source: SeriesFiles, target: SeriesFiles) -> bool:
    """Whether two series are of one patient, coordinate system and acquisition; two contrast phases are two acquisitions."""
    frames = {frame_of_reference(source), frame_of_reference(target)} - {""}
    patients = {patient_key(source.first), patient_key(target.first)} - {""}
    return len(frames) < 2 and len(patients) < 2 and same_acquisition(source, target)


def _same_acquisition(source: SeriesFiles, target: SeriesFiles) -> bool:
    """Whether two series may be of one acquisition, as far as de-identification leaves that to be seen."""
    return same_acquisition(source, target, ANONYMOUS)


def same_acquisition(source: SeriesFiles, target: SeriesFiles, keywords: Sequence[str] = (*ACQUISITION, *TIMES)) -> bool:
    """Whether two series may be of one acquisition, by those of the attributes in `ACQUISITION` and `TIMES` that are given."""
    return all((_simultaneous if keyword in TIMES else _shared)(source, target, keyword) for keyword in keywords)


def _shared(source: SeriesFiles, target: SeriesFiles, keyword: str) -> bool:
    """Whether two series have a value of an attribute in common, or one of them states none."""
    one, other = (
        {str(i.header.get(keyword, "") or "").strip().casefold() for i in s.instances} - {""} for s in (source, target)
    )
    return not one or not other or not one.isdisjoint(other)


def _simultaneous(source: SeriesFiles, target: SeriesFiles, keyword: str) -> bool:
    """Whether the spans of two series' times overlap, or lie within `TIME_TOLERANCE`; True where one states no time."""
    one, other = (
        [t for i in s.instances if (t := seconds(str(i.header.get(keyword, "")))) is not None] for s in (source, target)
    )
    return not one or not other or max(min(one), min(other)) - min(max(one), max(other)) <= TIME_TOLERANCE
