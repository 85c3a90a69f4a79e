"""What a model has seen: hashes that records and model folders carry, and what they say of a slice."""

import doctest
import hashlib
from pathlib import Path

import pytest
from paired_series import held_back, settings, volume, write_pair
from pydicom.dataset import Dataset

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Instance
from stan_ct.patches import training_slices
from stan_ct.patches.records import make_patches
from stan_ct.patches.training_slices import TrainingSlices, uid_hash


def instance(uid, series="1.2", study="1"):
    header = Dataset()
    header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = uid, series, study
    return Instance(Path("x.dcm"), header)


def hashes(*uids):
    return frozenset(hashlib.sha256(uid.encode()).hexdigest()[:12] for uid in uids)


SEEN = TrainingSlices(hashes("1.2.1", "1.2.2"), hashes("1.2.2", "1.2.3"), hashes("1"), hashes("9.9"))


@pytest.mark.parametrize(
    ("slice_", "what"),
    [
        (instance("1.2.1"), "train"),
        (instance("1.2.2"), "train"),
        (instance("1.2.3"), "validation"),
        (instance("1.2.4", series="9.9"), "series"),
        (instance("1.2.4"), "study"),
        (instance("1.2.4", study="2"), ""),
        (instance("1.2.1", series="7", study="7"), "train"),
    ],
)
def test_what_a_model_has_seen(slice_, what):
    """The slice itself comes before its series, and that before its study; training comes before validation."""
    assert SEEN.of(slice_) == what
    assert TrainingSlices().of(slice_) == ""


def test_as_text_and_back():
    """A line for each hash, in order; another text is refused with its line."""
    assert doctest.testmod(training_slices) == (0, 1)
    text = SEEN.to_text()
    assert text.splitlines()[0] == f"train {min(SEEN.train)}"
    assert len(text.splitlines()) == 6
    assert TrainingSlices.from_text(text) == SEEN
    assert TrainingSlices.from_text("") == TrainingSlices()
    for damaged in ("train", "train 0123456789aB", "train 0123456789abc", "test 0123456789ab", "\n"):
        with pytest.raises(ValueError, match=r"line 2 is .*, expected one of train, validation, study, series, and 12 digits"):
            TrainingSlices.from_text(f"train {uid_hash('1')}\n{damaged}\n")


def test_either_of_two_models():
    """A model has seen what the model had seen from which its training started."""
    other = TrainingSlices(train=hashes("5"), study=hashes("2"))
    assert (SEEN | other).train == SEEN.train | hashes("5")
    assert (SEEN | other).study == hashes("1", "2")
    assert SEEN | TrainingSlices() == SEEN


def test_records_know_their_slices(tmp_path):
    """Source and target slices of each part; a model is told those that train and validate, and their study."""
    write_pair(tmp_path / "ct", volume(6), volume(6, seed=1))
    index = make_patches(settings(tmp_path, split="halves", patches_per_slice=1))
    found = {part: frozenset(text.split()) for part, text in index["instances"].items()}
    assert {part: len(slices) for part, slices in found.items()} == {"train": 4, "validation": 2, "test": 6}
    assert len(frozenset().union(*found.values())) == 12
    seen, (source, target) = TrainingSlices.from_index(index), find_series(tmp_path / "ct").series
    assert (seen.train, seen.validation, seen.series) == (found["train"], found["validation"], frozenset())
    assert [seen.of(i) for i in source.instances] == ["train", "study", "train", "study", "validation", "study"]
    assert [seen.of(i) for i in target.instances] == [seen.of(i) for i in source.instances]
    assert {i.uid for i in source.instances if seen.of(i) == "validation"} == set(held_back(tmp_path))


def test_records_of_earlier_versions_know_their_series():
    """So any slice of a series that trained or validated may have been seen; damaged entries are passed over."""
    pairs = [
        {"split": part, "source": {"series_uid": f"{n}.1"}, "target": {"series_uid": f"{n}.2"}}
        for n, part in enumerate(("train", "validation", "test"))
    ]
    seen = TrainingSlices.from_index({"pairs": [*pairs, 3, {"split": "train", "source": 5}]})
    assert seen == TrainingSlices(series=hashes("0.1", "0.2", "1.1", "1.2"))
    for nothing in (None, "text", {}, 3):
        assert TrainingSlices.from_pairs(nothing) == TrainingSlices()
