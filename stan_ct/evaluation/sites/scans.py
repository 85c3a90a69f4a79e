"""The scans to compare: one series of each patient at each site, and its standardized slices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stan_ct.dicom.find import Inventory, find_series
from stan_ct.dicom.grouping import comparable_id
from stan_ct.dicom.header import Header
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.series import SIMULATOR
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.patches.where import Condition


@dataclass(frozen=True)
class Scan:
    """One patient at one site.

    Attributes:
        site: Name of the site.
        files: The series.
        standardized: SOP Instance UID of its slices -> the standardized slice; None for a site that was not standardized,
            whose scans are the same before and after.
    """

    site: str
    files: SeriesFiles
    standardized: Mapping[str, Instance] | None = None

    @property
    def patient(self) -> str:
        """Patient ID in a form that is the same at every site."""
        return comparable_id(self.files.patient)

    @property
    def protocol(self) -> str:
        """Kernel and slice thickness, in words."""
        return f"{self.files.kernel}, {self.files.slice_thickness:.4g} mm"


@dataclass(frozen=True)
class Scans:
    """All scans, site by site, and notes on what was not used."""

    scans: tuple[Scan, ...]
    notes: tuple[str, ...]


def find_scans(settings: SiteSettings, progress: Callable = lambda items: items) -> Scans:
    """Finds the scans of all sites.

    Of several series of a patient at a site, one of the protocol (kernel and thickness) that most patients of the site have
    is used, of several of these the one with most slices.

    Args:
        settings: Sites, conditions and the folder of standardized series.
        progress: Wrapper of the iteration over files, such as `tqdm`.
    Raises:
        FileNotFoundError: If a folder does not exist.
        NotComparable: If a site has no series, or none was standardized.
    """
    scans: list[Scan] = []
    notes: list[str] = []
    for site, folder in settings.sites.items():
        inventory = find_series(folder, [settings.standardized] if settings.standardized else [], progress)
        series = _that_hold(inventory, settings.where.get(site, ()), site, folder)
        chosen = _one_per_patient([Scan(site, files) for files in series])
        notes += _notes(site, inventory, chosen, len(series))
        scans += chosen
    if settings.standardized is None:
        return Scans(tuple(scans), tuple(notes))
    return _with_standardized(scans, notes, find_series(settings.standardized, [], progress, True), settings.standardized)


def _that_hold(inventory: Inventory, where: Sequence[Condition], site: str, folder: Path) -> list[SeriesFiles]:
    series = [files for files in inventory.series if all(condition.holds(files) for condition in where)]
    if not series:
        rejected = Counter(refusal.reason for refusal in inventory.refusals)
        came = ", ".join(f"{count} x {what}" for what, count in (inventory.skipped + rejected).items()) or "no files"
        if inventory.series:
            came = "; ".join(condition.describe(inventory.series) for condition in where)
        raise NotComparable(f"site {site} ({folder}) has no CT series to compare: expected one for each patient, found {came}")
    return series


def _one_per_patient(scans: Sequence[Scan]) -> list[Scan]:
    patients: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        patients[scan.patient].append(scan)
    common = Counter(protocol for found in patients.values() for protocol in {scan.protocol for scan in found})

    def rank(scan: Scan) -> tuple[int, str, int, str]:
        return -common[scan.protocol], scan.protocol, -len(scan.files.instances), scan.files.uid

    return [min(found, key=rank) for _, found in sorted(patients.items())]


def _notes(site: str, inventory: Inventory, chosen: Sequence[Scan], series: int) -> list[str]:
    notes = []
    if any(scan.files.first.get("Manufacturer") == SIMULATOR for scan in chosen):
        notes.append(f"Site {site} has simulated scans")
    if others := len(inventory.series) - len(chosen):
        notes.append(f"Site {site}: {others} of {len(inventory.series)} series are not used, one for each patient is")
    if refused := sum(len(refusal.paths) for refusal in inventory.refusals):
        reasons = ", ".join(sorted({refusal.reason for refusal in inventory.refusals}))
        notes.append(f"Site {site}: {refused} slices cannot be used ({reasons})")
    protocols = Counter(scan.protocol for scan in chosen)
    if len(protocols) > 1:
        words = "; ".join(f"{name} ({count})" for name, count in protocols.most_common())
        notes.append(f"Site {site} has several protocols, whose differences count as differences of its patients: {words}")
    return notes


def _with_standardized(scans: Sequence[Scan], notes: list[str], inventory: Inventory, folder: Path) -> Scans:
    """The scans with their standardized slices; without those patients of a standardized site whose scan was not."""
    made: dict[str, Instance] = {}
    twice = 0
    for files in inventory.series:
        for instance in files.instances:
            for source in _sources(instance.header):
                twice += source in made
                made.setdefault(source, instance)
    if twice:
        raise NotComparable(f"{folder} holds {twice} slices that were standardized twice: leave the results of one model there")
    kept = []
    for site in dict.fromkeys(scan.site for scan in scans):
        own = [scan for scan in scans if scan.site == site]
        partners = [{i.uid: made[i.uid] for i in scan.files.instances if i.uid in made} for scan in own]
        if not any(partners):
            notes.append(f"Site {site} was not standardized: it is the same before and after, as the site of the standard is")
            kept += own
            continue
        if missing := sum(not found for found in partners):
            notes.append(f"Site {site}: {missing} patients without a standardized series are left out of all states")
        kept += [Scan(site, scan.files, found) for scan, found in zip(own, partners, strict=True) if found]
    if all(scan.standardized is None for scan in kept):
        raise NotComparable(
            f"{folder} holds no series that was made of a series of the sites: expected DICOM that names its sources (Source "
            "Image Sequence), as stan-ct reconstruct writes it"
        )
    return Scans(tuple(kept), tuple(notes))


def _sources(header: Header) -> list[str]:
    """SOP Instance UID of the slice that a slice was made of; none if it names several, as one between two slices does."""
    items = header.get("SourceImageSequence") or ()
    uids = [str(item.get("ReferencedSOPInstanceUID") or "") for item in items]
    return uids if len(uids) == 1 and uids[0] else []
