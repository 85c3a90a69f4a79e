"""Keeping training, validation and test apart, and the check that they are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_series import volume, write_series
from pydicom.dataset import Dataset

from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.patches.pairs import PairingError, SeriesPair
from stan_ct.patches.splits import by_blocks, by_patient, check_leakage, find_trees, key_of


def series_of(patient: str, slices: int, number: int = 1, **header) -> SeriesFiles:
    """A series of one patient, every 5 mm; `header` changes values."""
    instances = []
    for z in range(slices):
        dataset = Dataset()
        values = {"PatientID": patient, "StudyInstanceUID": f"1.{patient[1:]}", "FrameOfReferenceUID": f"1.{patient[1:]}.9"}
        values |= {"SeriesInstanceUID": f"1.{patient[1:]}.{number}", "ImagePositionPatient": [0, 0, 5 * z]}
        for keyword, value in {**values, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], **header}.items():
            setattr(dataset, keyword, value)
        instances.append(Instance(Path(f"/ct/{patient}/{number}/{z}.dcm"), dataset))
    return SeriesFiles(tuple(instances))


def patient_pair(patient: str, slices: int, number: int = 1, **header) -> SeriesPair:
    """Two series of one patient whose slices pair in order."""
    both = (series_of(patient, slices, number + k, **header) for k in (0, 1))
    return SeriesPair(*both, tuple((z, z) for z in range(slices)))


def patients(pairs) -> set[str]:
    return {pair.source.patient for pair in pairs}


@given(st.lists(st.integers(1, 9), min_size=3, max_size=9), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_patient_split_is_disjoint(sizes, validation, test, seed):
    """Two pairs of one patient go the same way whole; each part has at least one patient, and the share asked for."""
    pairs = [patient_pair(f"P{n}", size) for n, size in enumerate(sizes)] + [patient_pair("P0", 5, number=3)]
    parts = by_patient(pairs, validation, test, seed)
    assert list(parts) == (["train", "validation", "test"] if test else ["train", "validation"])
    assert sorted(map(id, (pair for part in parts.values() for pair in part))) == sorted(map(id, pairs))
    counts = {part: len(patients(pairs)) for part, pairs in parts.items()}
    assert sum(counts.values()) == len(sizes)
    assert min(counts.values()) >= 1
    assert counts["validation"] == np.clip(round(len(sizes) * validation), 1, len(sizes) - len(parts) + 1)
    if test:
        assert counts["test"] == np.clip(round(len(sizes) * test), 1, len(sizes) - counts["validation"] - 1)


def test_patient_split_follows_the_seed():
    """One seed holds back the same patients, in any order of the pairs; seeds differ."""
    pairs = [patient_pair(f"P{n}", 2) for n in range(10)]

    def chosen(order: list[SeriesPair], seed: int) -> tuple[frozenset, frozenset]:
        parts = by_patient(order, 0.3, 0.2, seed)
        return frozenset(patients(parts["validation"])), frozenset(patients(parts["test"]))

    assert chosen(pairs, 1) == chosen(pairs[::-1], 1)
    assert tuple(map(len, chosen(pairs, 1))) == (3, 2)
    assert len({chosen(pairs, seed) for seed in range(10)}) > 5


def test_too_few_patients():
    """The error names what came and the way out, with and without a test part."""
    with pytest.raises(PairingError, match=r"at least two patients, found one\. .*--split=blocks"):
        by_patient([patient_pair("P0", 9), patient_pair("P0", 9, number=3)], 0.2, 0, 0)
    with pytest.raises(PairingError, match="at least three patients, found two"):
        by_patient([patient_pair("P0", 9), patient_pair("P1", 9)], 0.2, 0.1, 0)


def test_blocks_split_is_every_third_block():
    """In blocks of 2 the slices 4, 5 and 10, 11 validate, the others train; the same places in every pair of the study."""
    parts = by_blocks([patient_pair("P0", 12), patient_pair("P0", 5, number=3)], 2)
    held, trained = ([[z for z, _ in pair.slices] for pair in parts[part]] for part in ("validation", "train"))
    assert held == [[4, 5, 10, 11], [4]]
    assert trained == [[0, 1, 2, 3, 6, 7, 8, 9], [0, 1, 2, 3]]


def test_blocks_of_series_with_other_spacing_hold_back_the_same_places():
    """A series with every second slice of another is split at the same places, so nothing leaks from one to the other."""
    thin = SeriesFiles(patient_pair("P0", 12, number=3).source.instances[::2])
    pairs = [patient_pair("P0", 12), SeriesPair(thin, thin, tuple((z, z) for z in range(6)))]
    whole, every_second = by_blocks(pairs, 2)["validation"]
    assert [z for z, _ in whole.slices] == [4, 5, 10, 11]
    assert [2 * z for z, _ in every_second.slices] == [4, 10]


def test_halves_split_tests_every_second_block():
    """Of 12 slices in blocks of 2 the slices 2, 3, 6, 7, 10, 11 test; of the other three blocks the third validates."""
    parts = by_blocks([patient_pair("P0", 12)], 2, halves=True)
    found = {part: [z for z, _ in pairs[0].slices] for part, pairs in parts.items()}
    assert found == {"train": [0, 1, 4, 5], "validation": [8, 9], "test": [2, 3, 6, 7, 10, 11]}


def test_too_few_slices_for_halves():
    """Of 16 slices there is no fifth block of 4."""
    with pytest.raises(PairingError, match=r"fifth block of 4 slices .* smaller --block"):
        by_blocks([patient_pair("P0", 16)], 4, halves=True)


def test_too_few_slices_for_blocks():
    """Of 8 slices there is no third block of 4."""
    with pytest.raises(PairingError, match=r"third block of 4 slices .* smaller --block"):
        by_blocks([patient_pair("P0", 8)], 4)


def leaking(changes: dict, pixels: dict[str, str] | None = None):
    """Checks P0 in training against P1 in validation, of which `changes` are in the headers, and slices in `pixels`."""
    parts = {"train": [patient_pair("P0", 3)], "validation": [patient_pair("P1", 3, **changes)]}
    digests = {}
    for pair in (*parts["train"], *parts["validation"]):
        for series in (pair.source, pair.target):
            digests[key_of(series)] = {z: (pixels or {}).get(f"{series.uid}/{z}", f"{series.uid}/{z}") for z in range(3)}
    return check_leakage(parts, digests)


def test_a_clean_split_is_counted():
    """Two patients, studies and frames, four series, twelve slices: each in one part."""
    assert leaking({}) == {
        "Patient ID": 2,
        "Study Instance UID": 2,
        "Frame of Reference UID": 2,
        "Series Instance UID": 4,
        "slice pixels": 12,
    }


@pytest.mark.parametrize(
    ("keyword", "kind"),
    [
        ("PatientID", "Patient ID"),
        ("StudyInstanceUID", "Study Instance UID"),
        ("FrameOfReferenceUID", "Frame of Reference UID"),
    ],
)
def test_shared_identity_is_refused(keyword, kind):
    """Any one identity in two parts is refused by name, with both series."""
    shared = str(getattr(patient_pair("P0", 3).source.first, keyword))
    with pytest.raises(PairingError, match=rf"train and validation share {kind} {shared}: series 1\.0\.1 .* series 1\.1\.1 "):
        leaking({keyword: shared})


def test_shared_pixels_are_refused():
    """One slice that is in two parts under all other names is found, and both series are named."""
    pixels = {"1.0.2/1": "same", "1.1.1/2": "same"}
    with pytest.raises(PairingError, match=r"share slice pixels same: series 1\.0\.2 \(/ct/P0/2\) and series 1\.1\.1 "):
        leaking({}, pixels)


def test_what_identifies_nobody_is_not_shared():
    """Empty identities and slices without content are no leak, nor are slices that one part has twice."""
    assert leaking({"PatientID": "", "FrameOfReferenceUID": ""}, {"1.0.1/0": "", "1.1.1/0": "", "1.0.2/1": "1.0.1/1"}) == {
        "Patient ID": 1,
        "Study Instance UID": 2,
        "Frame of Reference UID": 1,
        "Series Instance UID": 4,
        "slice pixels": 9,
    }


def test_several_trees(tmp_path):
    """Series of all trees are found; one that lies in two of them is refused, with both places."""
    write_series(tmp_path / "a", volume(1, 16), "A", 1)
    write_series(tmp_path / "b", volume(1, 16), "B", 2)
    found, _ = find_trees([tmp_path / "a", tmp_path / "b"], folders=False)
    assert [series.kernel for series in found[""]] == ["A", "B"]
    with pytest.raises(PairingError, match=r"lies in two input trees, .*/a/1 and .*/a/1: give each series once"):
        find_trees([tmp_path / "a", tmp_path], folders=False)


def test_folders(tmp_path):
    """Series go to the part whose folder they lie in, of every tree; what lies beside these folders is not looked at."""
    for number, place in enumerate(("x/train/P1", "x/test", "x/phantom", "y/train", "y/validation/deep/down")):
        write_series(tmp_path / place, volume(1, 16), "A", number + 1)
    found, _ = find_trees([tmp_path / "x", tmp_path / "y"], folders=True)
    numbers = {part: [series.number for series in there] for part, there in found.items()}
    assert numbers == {"train": [1, 4], "test": [2], "validation": [5]}
    with pytest.raises(PairingError, match=r"expects folders train, validation .*phantom; found: 3"):
        find_trees([tmp_path / "x/phantom"], folders=True)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_trees([tmp_path / "nowhere"], folders=False)
