"""Data sets of the experiment: pairs of a source and the standard, simulated and real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom

from stan_ct.files import open_atomically

STANDARD = "BL64"
"""Kernel of the standard protocol of simulated patients."""

SIMULATED, REAL = ("1mm", "3mm"), ("philips", "toshiba")
"""Names of the data sets."""
DEFAULT = SIMULATED
"""Data sets of a run that chooses none."""

PARTS = {"train": ("neck", slice(1, None)), "validation": ("neck", slice(0, 1)), "test": ("chest", slice(None))}
"""Part -> the level of the Toshiba phantom, and which of its slices, from head to feet, belong to it."""


@dataclass(frozen=True)
class DataSet:
    """Pairs of series on which every row trains and is tested.

    Attributes:
        name: Name, and folder of everything made of it.
        short: What titles add to the kernels; may be empty.
        described: What it is, for the page.
        patches: Flags of `stan-ct make-patches`, but for the folders.
        patients: Flags of `stan-ct simulate` beyond those of the scale.
        real: Whether the images are of a scanner.
    """

    name: str
    short: str
    described: str
    patches: tuple[str, ...]
    patients: tuple[str, ...] = ()
    real: bool = False

    @property
    def patients_step(self) -> str:
        """Name of the step that simulates its patients, and of their folder; empty for real data."""
        return "" if self.real else f"{self.name}/patients" if self.patients else "patients"


def data_sets(scale: str) -> dict[str, DataSet]:
    """Every data set by name.

    Args:
        scale: `smoke`, `laptop` or `paper`.
    """
    filtered = f"--front_end={'amplitude' if scale == 'smoke' else 'blend'}"  # a blend takes minutes to choose
    cut = f"--preset=reproduce/{scale}_patches"
    both = (f"--kernels=BR40,{STANDARD}", "--thicknesses=1,3")
    thick = ("--source_kernels=BR40", "--pairing=standard", "--target_thickness=1", "--thicknesses=3")
    toshiba = ("--source_kernels=FC13", "--target_kernel=FC51", "--split=folders", "--pair_by=position")
    found = (
        DataSet("1mm", "1 mm", "simulated patients, BR40 and BL57 to BL64", (cut,)),
        DataSet("3mm", "", "simulated patients, BR40 3 mm to BL64 1 mm", (cut, *thick), both),
        DataSet(
            "philips",
            "Philips",
            "a real chest, Philips kernels B to L, 5 mm, half of the slices",
            ("--preset=philips_patches", filtered),
            real=True,
        ),
        DataSet(
            "toshiba",
            "Toshiba",
            "a real phantom, Toshiba kernels FC13 to FC51, 1 mm, trained on the neck, tested in the chest",
            (*toshiba, filtered, "--patches_per_slice=60"),
            real=True,
        ),
    )
    return {each.name: each for each in found}


def input_of(data: DataSet, patients: Path, ct: Path | None, folder: Path) -> Path:
    """Folder of the series from which patches of a data set are cut.

    Args:
        data: Data set.
        patients: Simulated patients.
        ct: Real CT, for real data sets.
        folder: Folder of the experiment, for links and copies.
    """
    if data.name == "philips" and ct is not None:
        return ct / "pair_philips_5mm"
    if data.name == "toshiba" and ct is not None:
        return divide_phantom(ct / "pair_toshiba_phantom", folder / "toshiba" / "series")
    if data.name == "3mm":
        series = [path for name in ("BR40_3mm", f"{STANDARD}_1mm") for path in patients.glob(f"*/*/{name}")]
        return link({str(path.relative_to(patients)): path for path in series}, folder / "3mm" / "series")
    return patients


def link_test_series(patients: Path, kernel: str, folder: Path) -> Path:
    """A folder with the 1 mm series of every test patient in one kernel, as links."""
    series = list(patients.glob(f"test/*/{kernel}_1mm"))
    return link({path.parent.name: path for path in series}, folder / "test" / kernel)


def link(series: Mapping[str, Path], folder: Path) -> Path:
    """Links to series, by their place in a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in sorted(series.items()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(path.resolve(), target_is_directory=True)
    return folder


def divide_phantom(phantom: Path, folder: Path) -> Path:
    """Copies of the phantom's slices in folders train, validation and test, each part a patient of its own.

    The slices are those of one series; the identity of each part is that of the scan with the part's name. Of the two slices
    of the neck, 14 mm apart, one trains and the other chooses the version; the chest is measured on.
    """
    for part, (level, chosen) in PARTS.items():
        for kernel in ("FC13", "FC51"):
            for path in sorted((phantom / level / kernel).iterdir())[chosen]:
                place = folder / part / kernel / path.name
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _write_as(path, part, place)
    return folder


def _write_as(path: Path, part: str, place: Path) -> None:
    """Writes a slice with the identity of a part."""
    number, dataset = 1 + list(PARTS).index(part), pydicom.dcmread(path)
    dataset.PatientID = f"{dataset.PatientID}-{part}"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, name, f"{getattr(dataset, name)[:60].rstrip('.')}.{number}")
    with open_atomically(place) as file:
        dataset.save_as(file)
