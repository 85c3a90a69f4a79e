"""DICOM trees -> records and index: every number is followed from the slice to the record, and every count to the index."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import commands
import numpy as np
import pydicom
import pytest
from paired_series import held_back, place, records, settings, shards, volume, write_pair, write_series
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from synthetic import STUDY_UID

from stan_ct.cli.make_patches import _summary
from stan_ct.ct.filters import FrontEnd, fit_radial_filter
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.patches import cutting
from stan_ct.patches.pairs import PairingError, SeriesPair
from stan_ct.patches.plan import check_margin
from stan_ct.patches.record_index import read_index
from stan_ct.patches.records import make_patches
from stan_ct.patches.tfrecord import record_length

ROOT = Path(__file__).parents[2]
SPACING = (0.7, 0.7)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """One patient, six slices of 258 x 266 pixels, split by blocks: the folder, source and target HU, and the index."""
    folder = tmp_path_factory.mktemp("blocks")
    source, target = volume(6, 258, seed=1), volume(6, 258, seed=2)
    write_pair(folder / "ct", source, target)
    return folder, source, target, make_patches(settings(folder))


def test_records_hold_the_slices(blocks):
    """A record is a place that source and target slice share, HU for HU; each slice gives `patches_per_slice` of them."""
    folder, source, target, index = blocks
    slices = {}
    for split in ("train", "validation"):
        pairs = records(folder, split)
        assert len(pairs) == index["patches"][split]
        where = [place(pair[0], source) for pair in pairs]
        assert [place(pair[1], target) for pair in pairs] == where
        slices[split] = [z for z, _, _ in where]
    assert slices == {"train": [0, 0, 1, 1, 3, 3, 4, 4], "validation": [2, 2, 5, 5]}
    assert index["slices"] == {"train": 4, "validation": 2}


def test_patches_lie_anywhere(tmp_path):
    """Patches of one slice lie at random places that the seed decides."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    seen = []
    for seed in (1, 1, 2):
        make_patches(settings(tmp_path, seed=seed, patches_per_slice=4))
        seen.append([place(pair[0], volume(3, 258))[1:] for pair in records(tmp_path, "train")])
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) > 3


def test_soft_tissue_only(tmp_path):
    """At least 70 % of a patch is soft tissue of the source: a slice of bone and air gives no patch."""
    source, target = volume(3), volume(3, seed=1)
    source[1, :76] = 1000  # 29.7 % bone
    source[0, :, :78] = -1024  # 30.5 % air
    target[1] = 1000  # does not matter
    write_pair(tmp_path / "ct", source, target)
    index = make_patches(settings(tmp_path))
    assert index["patches"] == {"train": 1, "validation": 1}  # these slices have a single place
    assert index["asked"] == {"train": 4, "validation": 2}
    assert {place(pair[0], source)[0] for pair in records(tmp_path, "train")} == {1}


def test_held_back_slices(blocks):
    """held_back.txt lists the SOP instances of the validation slices of the source, and training holds none of them."""
    folder, source, _, _ = blocks
    uids = held_back(folder)
    assert uids == [f"{STUDY_UID}.1.3", f"{STUDY_UID}.1.6"]
    kept_apart = {int(uid.rsplit(".", 1)[1]) - 1 for uid in uids}
    assert kept_apart == {place(pair[0], source)[0] for pair in records(folder, "validation")}
    assert not kept_apart & {place(pair[0], source)[0] for pair in records(folder, "train")}


def test_split_by_patient(tmp_path):
    """A split by patient keeps every slice of a patient on one side; the number held back is a rounded share."""
    volumes = {patient: volume(2, seed=patient) for patient in (1, 2, 3)}
    for patient, hu in volumes.items():
        write_pair(tmp_path / "ct", hu, -hu, f"P{patient}", number=10 * patient)
    make_patches(settings(tmp_path, split="patient", validation_fraction=0.4, patches_per_slice=1))
    everyone = np.concatenate(list(volumes.values()))
    trained, held = ([place(p[0], everyone)[0] // 2 for p in records(tmp_path, s)] for s in ("train", "validation"))
    assert (len(trained), len(held), len(set(held))) == (4, 2, 1)
    assert not set(trained) & set(held)
    assert held_back(tmp_path) == [f"{STUDY_UID}.{10 * (held[0] + 1)}.{n}" for n in (1, 2)]


def test_blocks_keep_a_slice_on_one_side(tmp_path):
    """A source slice that two target series pair with is on one side in both pairs, wherever each pair starts."""
    source = volume(8)
    write_pair(tmp_path / "ct", source, -source)
    write_series(tmp_path / "ct", source[2:] // 2, "SOFT", 3, first=2)
    make_patches(settings(tmp_path, patches_per_slice=1))
    trained, held = ({place(p[0], source)[0] for p in records(tmp_path, s)} for s in ("train", "validation"))
    assert len(records(tmp_path, "train")) + len(records(tmp_path, "validation")) == 8 + 6
    assert trained | held == set(range(8))
    assert not trained & held


def test_split_without_validation(tmp_path):
    """Too few slices for a third block are refused before anything is trained on records without validation."""
    write_pair(tmp_path / "ct", volume(2), volume(2))
    with pytest.raises(PairingError, match=r"--block|--split|validation"):
        make_patches(settings(tmp_path))


def test_one_patient_cannot_be_split(tmp_path):
    """A split by patient of one patient is refused, with the way out, and nothing is written."""
    write_pair(tmp_path / "ct", volume(3), volume(3))
    with pytest.raises(PairingError, match=r"at least two patients, found one\. .* --split=blocks"):
        make_patches(settings(tmp_path, split="patient"))
    assert contents(tmp_path / "records") == {}


def test_unknown_kernel(tmp_path):
    """Kernels that are not there are named beside those that are."""
    write_pair(tmp_path / "ct", volume(1), volume(1))
    with pytest.raises(PairingError, match=r"kernel 'BONE' and one of 'SOFT' .* protocols found: SHARP 2\.5 mm, SOFT 2\.5 mm"):
        make_patches(settings(tmp_path, source_kernels=("BONE",)))


def test_front_end(tmp_path):
    """The front end is fitted on training slices alone and applied to whole source slices; source and target stay beside it."""
    source, target = volume(3, 258, seed=3), volume(3, 258, seed=4) // 2
    target[2] = 3 * source[2] // 4  # held back, and very different
    write_pair(tmp_path / "ct", source, target)
    index = make_patches(settings(tmp_path, front_end="amplitude"))
    assert held_back(tmp_path) == [f"{STUDY_UID}.1.3"]
    fitted = FrontEnd.from_json(index["front_end"]).filters["SHARP"]
    train, everything = (fit_radial_filter([(source[z], target[z], SPACING) for z in range(n)]) for n in (2, 3))
    np.testing.assert_allclose(fitted.gain, train.gain, atol=1e-4)
    assert np.abs(np.subtract(fitted.gain, everything.gain)).max() > 0.02
    assert index["sharpens"] is False
    filtered = np.stack([np.rint(fitted(hu.astype(np.float32), SPACING)) for hu in source])
    for split in ("train", "validation"):
        for unfiltered, patch, wanted in records(tmp_path, split, images=3):
            z, i, j = place(wanted, target)
            np.testing.assert_array_equal(patch, filtered[z, i : i + 256, j : j + 256])
            np.testing.assert_array_equal(unfiltered, source[z, i : i + 256, j : j + 256])
    assert index["images"] == ["source", "filtered", "target"]


def test_blend(tmp_path):
    """A blend is chosen on the validation slices, filters the records, and the index says how it was chosen."""
    source = volume(3, seed=3)
    write_pair(tmp_path / "ct", source, source // 2)
    index = make_patches(settings(tmp_path, front_end="blend"))
    fitted = FrontEnd.from_json(read_index(tmp_path / "records")["front_end"]).filters["SHARP"]
    (choice,) = index["front_end_choices"].values()
    assert set(choice) == {"fit", "taper", "exponents", "score"}
    assert 0 < choice["score"] <= 1
    for unfiltered, patch, wanted in records(tmp_path, "validation", images=3):
        np.testing.assert_array_equal(patch, np.rint(fitted(unfiltered.astype(np.float32), SPACING)))
        assert np.std(patch - wanted) < 0.1 * np.std(unfiltered - wanted)


def test_sharpens(tmp_path):
    """The index says whether the target kernel is the sharper one, without a front end too."""
    source = volume(3)
    write_pair(tmp_path / "ct", source, 2 * source)
    index = make_patches(settings(tmp_path))
    assert index["sharpens"] is True
    assert index["front_end"] == {}


def test_index(blocks):
    """The index on disk is what was returned: settings, counts, and the series by UID and kernel."""
    folder, _, _, index = blocks
    index = json.loads(json.dumps(index))
    assert json.loads((folder / "records/index.json").read_text()) == index
    assert read_index(folder / "records")["settings"]["target_kernel"] == "SOFT"
    both = {
        "source": {"series_uid": f"{STUDY_UID}.1", "kernel": "SHARP", "slice_thickness": 2.5},
        "target": {"series_uid": f"{STUDY_UID}.2", "kernel": "SOFT", "slice_thickness": 2.5},
    }
    made = {"train": {"slices": 4, "patches": 8}, "validation": {"slices": 2, "patches": 4}}
    for pair, (split, counts) in zip(index["pairs"], made.items(), strict=True):
        (shard,) = shards(folder, split)
        assert pair.pop("seed") > 2**32
        assert pair == {**both, **counts, "split": split, "patient": 1, "shard": shard.name}
        assert index["protocols"][split] == {"SHARP 2.5 mm -> SOFT 2.5 mm": {"pairs": 1, **counts}}
    assert index["record_side"] == {"train": 256, "validation": 256}
    assert "one study on both sides" in index["leakage"]


def test_no_index(tmp_path):
    """A folder without records is named, with the script that makes them."""
    with pytest.raises(FileNotFoundError, match=r"index\.json does not exist: make patch records with stan-ct make-patches"):
        read_index(tmp_path)


def test_resized_patches(tmp_path):
    """With `resized`, patches of any side from 100 pixels on become 256: a ramp becomes a flatter ramp of the same kind."""
    ramp = np.broadcast_to(3 * np.arange(256) - 400, (3, 256, 256))
    write_pair(tmp_path / "ct", ramp, -ramp)
    make_patches(settings(tmp_path, resized=True, patches_per_slice=10))
    pairs = records(tmp_path, "train").astype(float)
    np.testing.assert_allclose(pairs[:, 0], -pairs[:, 1], atol=1)
    sides = np.ptp(pairs[:, 0, 0], axis=-1) / 3
    assert len(set(np.rint(sides))) > 5
    assert 90 < sides.min() < sides.max() <= 256


def damage(path):
    """Makes a slice that no decoder reads."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"\xff" * 64])
    dataset.save_as(path)


def test_unreadable_slice(tmp_path):
    """A slice that cannot be decoded is left out with its partner and named; all others keep their partners."""
    soft, sharp = volume(7, 258), volume(7, 258, seed=1)
    write_series(tmp_path / "ct", soft, "SOFT", 2)
    path = write_series(tmp_path / "ct", sharp, "SHARP", 1, syntax="RLE")[3]
    damage(path)
    index = make_patches(settings(tmp_path, front_end="amplitude"))
    for part, slices in (("train", {0, 1, 4, 6}), ("validation", {2, 5})):
        pairs = records(tmp_path, part, images=3)
        assert {place(pair[0], sharp)[0] for pair in pairs} == slices
        assert all(place(pair[0], sharp) == place(pair[2], soft) for pair in pairs)
    assert index["refused"] == [f"undecodable: {path}"]
    assert index["slices"] == {"train": 4, "validation": 2}


def test_the_summary_names_refused_slices(tmp_path):
    """The command prints up to three files that were refused, with the reason."""
    write_pair(tmp_path / "ct", volume(6), volume(6, seed=1))
    write_series(tmp_path / "ct", volume(8, seed=2), "SHARP", 3, syntax="RLE")
    for path in sorted((tmp_path / "ct/3").iterdir())[:4]:
        damage(path)
    index = make_patches(settings(tmp_path))
    lines = _summary("OUT", index).splitlines()
    assert lines[-1].startswith("  refused    4 files: undecodable: ")
    assert lines[-1].count("undecodable") == 3
    assert lines[-1].endswith(" and 1 more, see index.json")


def test_a_part_without_readable_slices(tmp_path):
    """If all of a part is unreadable nothing is written, and the message names a file with what to do."""
    write_series(tmp_path / "ct", volume(3), "SOFT", 2)
    path = write_series(tmp_path / "ct", volume(3), "SHARP", 1, syntax="RLE")[2]
    damage(path)
    with pytest.raises(PairingError, match=r"^no pair of validation slices can be read, such as .*: undecodable: .*") as error:
        make_patches(settings(tmp_path))
    assert str(path) in str(error.value)
    assert contents(tmp_path / "records") == {}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two patients in `train` and one each in `validation` and `test`; kernels A, B -> T at 1 and 3 mm, 3 slices each."""
    folder, number = tmp_path_factory.mktemp("cohort"), 0
    for patient, part in (("P1", "train"), ("P2", "train"), ("P3", "validation"), ("P4", "test")):
        for kernel in ("A", "B", "T"):
            for thickness in (1, 3):
                number += 1
                hu = volume(3, 258, seed=number)
                write_series(folder / "ct" / part / patient, hu, kernel, number, patient, thickness=thickness)
    return folder


def cohort_settings(cohort, output, **changes):
    defaults = {"source_kernels": ("A", "B"), "target_kernel": "T", "split": "folders", "patches_per_slice": 1}
    return settings(cohort, **{**defaults, "output_dir": str(output), **changes})


def protocols(index):
    return {part: {name: c["patches"] for name, c in counts.items()} for part, counts in index["protocols"].items()}


def test_totals(cohort, tmp_path):
    """Training gives its total, shared out over all pairs; validation and test give theirs for each source kernel."""
    totals = {"train_patches": 31, "validation_patches": 7, "test_patches": 4}
    index = make_patches(cohort_settings(cohort, tmp_path / "records", **totals))
    assert index["patches"] == index["asked"] == {"train": 31, "validation": 14, "test": 8}
    made = protocols(index)
    assert set(made["train"].values()) == {7, 8}  # two pairs each of 31 / 8
    assert made["validation"] == {f"{k} {t} mm -> T {t} mm": n for k in "AB" for t, n in ((1, 3), (3, 4))}
    assert made["test"] == {f"{k} {t} mm -> T {t} mm": 2 for k in "AB" for t in (1, 3)}
    for part, count in index["patches"].items():
        assert len(records(tmp_path, part)) == count
    hu = volume(3, 258, seed=10)  # B 3 mm of the second patient
    (one,) = [pair for pair in index["pairs"] if pair["source"]["series_uid"] == f"{STUDY_UID}.10"]
    (path,) = [path for path in shards(tmp_path, "train") if path.name == one["shard"]]
    assert path.name.startswith("train-B-3-mm-")
    where = [place(pair[0], hu)[0] for pair in records_of(path)]
    assert len(where) == one["patches"] == 4
    assert sorted(Counter(where).values()) == [1, 1, 2]  # even over the slices


def records_of(path, images=2):
    """The records of one file."""
    copy = path.parent / "one/records"
    copy.mkdir(parents=True)
    shutil.copy(path, copy / "x-0.tfrecord")
    try:
        return records(copy.parent, "x", images=images)
    finally:
        shutil.rmtree(copy.parent)


def test_others_make_up_for_slices_without_room(tmp_path):
    """A slice of bone gives nothing, and the others give its share too; what cannot be had is counted."""
    source, target = volume(6, 258), volume(6, 258, seed=1)
    source[1] = 1500
    write_pair(tmp_path / "ct", source, target)
    index = make_patches(settings(tmp_path, train_patches=12, validation_patches=100))
    slices = Counter(place(pair[0], source)[0] for pair in records(tmp_path, "train"))
    assert slices == {0: 4, 3: 4, 4: 4}
    assert (index["patches"], index["asked"]) == ({"train": 12, "validation": 66}, {"train": 12, "validation": 100})


def test_standard_protocol(cohort, tmp_path):
    """With `standard` all protocols go to T 1 mm, T 3 mm too, and a record holds T 1 mm's pixels."""
    index = make_patches(cohort_settings(cohort, tmp_path / "records", pairing="standard", target_thickness=1.0))
    expected = ["A 1 mm", "A 3 mm", "B 1 mm", "B 3 mm", "T 3 mm"]
    assert protocols(index)["validation"] == {f"{source} -> T 1 mm": 3 for source in expected}
    assert {pair["target"]["slice_thickness"] for pair in index["pairs"]} == {1.0}
    thick, standard = volume(3, 258, seed=18), volume(3, 258, seed=17)  # T of the third patient
    (path,) = [path for path in shards(tmp_path, "validation") if path.name.startswith("validation-T-3-mm-")]
    for source, target in records_of(path):
        assert place(source, thick) == place(target, standard)


def test_folders_are_kept_apart(cohort, tmp_path):
    """Each part holds the patients of its folder; the lists beside the records name their slices."""
    index = make_patches(cohort_settings(cohort, tmp_path / "records"))
    uids = {part: {p["source"]["series_uid"] for p in index["pairs"] if p["split"] == part} for part in index["patches"]}
    first = {"train": (1, 7), "validation": (13,), "test": (19,)}
    assert uids == {part: {f"{STUDY_UID}.{n + k}" for n in firsts for k in range(4)} for part, firsts in first.items()}
    for name, part in (("held_back.txt", "validation"), ("test_instances.txt", "test")):
        assert set(held_back(tmp_path, name)) == {f"{uid}.{z + 1}" for uid in uids[part] for z in range(3)}
    assert index["leakage"] == {
        "Patient ID": 4,
        "Study Instance UID": 4,
        "Frame of Reference UID": 4,
        "Series Instance UID": 24,
        "slice pixels": 72,
    }
    assert "P1" not in (tmp_path / "records/index.json").read_text()  # patients are numbers


def test_leakage_is_refused(cohort, tmp_path):
    """A test slice that is a training slice under another name stops the run before anything is written."""
    shutil.copytree(cohort / "ct", tmp_path / "ct")
    write_series(
        tmp_path / "ct/test/P4", np.concatenate([volume(2, 258, 99), volume(3, 258, 1)[1:2]]), "A", 19, "P4", thickness=1
    )
    with pytest.raises(PairingError, match=rf"train and test share slice pixels .*{STUDY_UID}\.1 .*{STUDY_UID}\.19 "):
        make_patches(cohort_settings(tmp_path, tmp_path / "records"))
    assert contents(tmp_path / "records") == {}


def test_folders_need_training_and_validation(cohort, tmp_path):
    """A tree without one of the two folders is refused by the name of what is missing."""
    shutil.copytree(cohort / "ct/train", tmp_path / "ct/train")
    with pytest.raises(PairingError, match="found no folder validation"):
        make_patches(cohort_settings(tmp_path, tmp_path / "records"))


def test_several_trees(tmp_path):
    """Source and target may lie in different trees."""
    write_series(tmp_path / "x", volume(3), "SHARP", 1)
    write_series(tmp_path / "y", volume(3, seed=1), "SOFT", 2)
    index = make_patches(settings(tmp_path, input_dir=(str(tmp_path / "x"), str(tmp_path / "y"))))
    assert index["patches"] == {"train": 2, "validation": 1}


def test_margin(tmp_path):
    """Training records have the margin around the patch, validation records have none."""
    source = volume(3, 300)
    write_pair(tmp_path / "ct", source, -source)
    index = make_patches(settings(tmp_path, margin=16))
    assert index["record_side"] == {"train": 288, "validation": 256}
    train, validation = records(tmp_path, "train", 288), records(tmp_path, "validation")
    assert (len(train), len(validation)) == (4, 2)
    assert [place(pair[0], source)[0] for pair in train] == [0, 0, 1, 1]
    assert [place(pair[0], source)[0] for pair in validation] == [2, 2]
    np.testing.assert_array_equal(train[:, 0], -train[:, 1])


@pytest.mark.parametrize(("height", "width", "fits"), [(256, 300, 0), (300, 290, 17), (512, 512, 128)])
def test_a_margin_that_does_not_fit_is_refused(height, width, fits):
    """The smallest training slice that holds a patch decides: 256 and twice the margin are at most its shorter side."""

    def pair(rows, columns):
        header = Dataset()
        header.Rows, header.Columns = rows, columns
        files = SeriesFiles((Instance(Path("0.dcm"), header),))
        return SeriesPair(files, files, ((0, 0),))

    pairs = [pair(512, 512), pair(height, width), pair(200, 600)]
    check_margin(pairs, fits)
    found = rf"--margin={fits + 1} needs .* {258 + 2 * fits} x {258 + 2 * fits} pixels, found {height} x {width}: .*={fits}$"
    with pytest.raises(PairingError, match=found):
        check_margin(pairs, fits + 1)


def test_a_margin_is_the_slices_own(tmp_path):
    """Slices of 258 x 266 pixels have margin 1 and refuse 2 before anything is looked at; all of a record is the slice."""
    source = volume(3, 258)
    write_pair(tmp_path / "ct", source, -source)
    with pytest.raises(PairingError, match=r"--margin=2 .* found 258 x 266: the largest that fits is --margin=1$"):
        make_patches(settings(tmp_path, margin=2))
    make_patches(settings(tmp_path, margin=1))
    assert [place(pair[0], source)[0] for pair in records(tmp_path, "train", 258)] == [0, 0, 1, 1]


def test_slices_smaller_than_a_patch_are_reflected(tmp_path):
    """A slice of 200 x 200 pixels is continued at its lower and right border, for the patch and for its margin."""
    source = volume(3, 200)
    write_pair(tmp_path / "ct", source, -source)
    index = make_patches(settings(tmp_path, margin=16))
    assert index["patches"] == {"train": 2, "validation": 1}  # one place in each slice
    for z, (first, second) in enumerate(records(tmp_path, "train", 288)):
        expected = np.pad(source[z], ((0, 88), (0, 88)), mode="symmetric")
        np.testing.assert_array_equal(first[:256, :256], expected[:256, :256])
        np.testing.assert_array_equal(second, -first)


@pytest.mark.parametrize("name", ["target_thickness", "thicknesses", "validation_fraction", "test_fraction"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none(tmp_path, name, number):
    """A flag that is nan or inf is refused by its name."""
    with pytest.raises(PairingError, match=rf"^--{name} expects a finite number, not {number}$"):
        settings(tmp_path, **{name: (1.0, number) if name == "thicknesses" else number})


def test_one_filter_for_each_kernel(cohort, tmp_path):
    """Two source kernels have a filter each, fitted on their own pairs, and each slice passes its own kernel's."""
    index = make_patches(cohort_settings(cohort, tmp_path / "records", front_end="amplitude"))
    front_end = FrontEnd.from_json(index["front_end"])
    assert list(front_end.filters) == ["A", "B"]
    assert front_end.filters["A"] != front_end.filters["B"]
    (one,) = [pair for pair in index["pairs"] if pair["source"]["series_uid"] == f"{STUDY_UID}.10"]  # B 3 mm
    (path,) = [path for path in shards(tmp_path, "train") if path.name == one["shard"]]
    slices = [np.rint(front_end(hu.astype(np.float32), SPACING, "B")) for hu in volume(3, 258, seed=10)]
    for _, patch, _ in records_of(path, images=3):
        assert any((patch == hu[i : i + 256, j : j + 256]).all() for hu in slices for i in range(3) for j in range(11))


TO_STANDARD = {"source_kernels": ("A",), "pairing": "standard", "target_thickness": 1.0}


def test_one_filter_and_fingerprint_for_each_thickness(cohort, tmp_path):
    """To a standard thickness, each kernel and thickness has a filter, a fingerprint and a share of validation of its own."""
    totals = {"validation_patches": 2, "test_patches": 2}
    index = make_patches(cohort_settings(cohort, tmp_path / "records", front_end="amplitude", **totals, **TO_STANDARD))
    front_end = FrontEnd.from_json(index["front_end"])
    assert list(front_end.filters) == ["A 1 mm", "A 3 mm", "T 3 mm"]
    assert index["patches"] == index["asked"] == {"train": 18, "validation": 6, "test": 6}
    known = [(source["kernel"], source["slice_thickness"]) for source in index["fingerprints"]["sources"]]
    assert known == [("A", (1.0, 1.0)), ("A", (3.0, 3.0)), ("T", (3.0, 3.0))]
    assert [target["slice_thickness"] for target in index["fingerprints"]["target"]] == [(1.0, 1.0)]
    (one,) = [pair for pair in index["pairs"] if pair["source"]["series_uid"] == f"{STUDY_UID}.8"]  # A 3 mm
    (path,) = [path for path in shards(tmp_path, "train") if path.name == one["shard"]]
    hu = volume(3, 258, seed=8)
    slices = [np.rint(front_end(z.astype(np.float32), SPACING, "A 3 mm")) for z in hu]
    for source, filtered, _ in records_of(path, images=3):
        z, i, j = place(source, hu)
        np.testing.assert_array_equal(filtered, slices[z][i : i + 256, j : j + 256])


def test_adjacent_slices(cohort, tmp_path):
    """Records hold the slices before and after, filtered as the source is, at the same place; ends are repeated."""
    changes = {"source_kernels": ("A",), "front_end": "amplitude", "thicknesses": (1.0,), "adjacent_slices": 1}
    index = make_patches(cohort_settings(cohort, tmp_path / "records", **changes))
    assert index["images"] == ["source", "filtered", "target", "adjacent-1", "adjacent+1"]
    assert index["fingerprints"]["sources"][0]["slice_spacing"] == (2.5, 2.5)
    (one,) = [pair for pair in index["pairs"] if pair["source"]["series_uid"] == f"{STUDY_UID}.7"]  # A 1 mm
    (path,) = [path for path in shards(tmp_path, "train") if path.name == one["shard"]]
    hu = volume(3, 258, seed=7)
    filtered = [np.rint(FrontEnd.from_json(index["front_end"])(z.astype(np.float32), SPACING, "A")) for z in hu]
    found = records_of(path, images=5)
    assert len(found) == 3
    for source, own, _, before, after in found:
        z, i, j = place(source, hu)
        for patch, number in ((own, z), (before, max(z - 1, 0)), (after, min(z + 1, 2))):
            np.testing.assert_array_equal(patch, filtered[number][i : i + 256, j : j + 256])


@pytest.mark.parametrize("split", ["patient", "blocks"])
def test_adjacent_slices_and_what_is_held_back(tmp_path, split):
    """Unpaired slices are neighbours too; unreadable ones are none; where blocks are held back, no slice of theirs is seen."""
    sources = {patient: volume(6, 256, seed=seed) for patient, seed in (("P1", 1), ("P2", 2))}
    for number, (patient, hu) in enumerate(sources.items()):
        write_series(tmp_path / "ct", hu, "SHARP", 2 * number + 1, patient)
        write_series(tmp_path / "ct", -hu[:5], "SOFT", 2 * number + 2, patient)
    damaged = tmp_path / "ct/1/1.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    make_patches(settings(tmp_path, split=split, adjacent_slices=1, patches_per_slice=1))
    seen = {}
    for source, target, *beside in (r for part in ("train", "validation") for r in records(tmp_path, part, images=4)):
        (patient, z), *others = (whose(patch, sources) for patch in (source, *beside))
        assert np.array_equal(target, -source)
        assert {other for other, _ in others} == {patient}
        seen[patient, z] = [n for _, n in others]
    if split == "patient":
        assert seen["P2", 0] == [0, 1]
        assert seen["P2", 4] == [3, 5]
        assert seen["P1", 2] == [2, 3]  # slice 1 is damaged
    else:
        assert seen["P2", 1] == [0, 1]
        assert seen["P2", 2] == [2, 2]
        assert seen["P2", 3] == [3, 4]


def whose(patch, volumes):
    """Patient and number of the slice that a whole patch is."""
    (found,) = [(name, z) for name, hu in volumes.items() for z in range(len(hu)) if np.array_equal(patch, hu[z])]
    return found


def test_a_thickness_without_a_filter(tmp_path):
    """A source protocol that validates and does not train is named, with what to choose."""
    for number, (part, kernel, thickness) in enumerate(
        (("train", "A", 1), ("train", "T", 1), ("validation", "A", 3), ("validation", "T", 1)), 1
    ):
        patient = "P1" if part == "train" else "P2"
        hu = volume(1, 256, seed=number)
        write_series(tmp_path / "ct" / part, hu, kernel, number, patient, thickness=thickness)
    changes = {"output_dir": str(tmp_path / "records"), "target_kernel": "T", "split": "folders", "front_end": "amplitude"}
    with pytest.raises(PairingError, match=r"no training pair has kernel A 3 mm, .* out of --source_kernels, or --thicknesses"):
        make_patches(settings(tmp_path, **changes, **TO_STANDARD))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_bytes_do_not_depend_on_workers(cohort, tmp_path):
    """One process and two write the same records and the same index."""
    made = {}
    for workers in (1, 2):
        output = tmp_path / str(workers)
        index = make_patches(cohort_settings(cohort, output, source_kernels=("A",), resized=True), workers)
        made[workers] = {name: data for name, data in contents(output).items() if name != "index.json"}
        made[workers]["index"] = {**index, "settings": None}
    assert made[1] == made[2]
    assert len(made[1]) == 8 + 4


def test_a_stopped_run_is_completed(cohort, tmp_path, monkeypatch):
    """Files that are complete are kept, others are made: the end is that of a run without a break, index last."""
    chosen = cohort_settings(cohort, tmp_path / "records", source_kernels=("A",))
    make_patches(chosen)
    whole = contents(tmp_path / "records")
    for path in (tmp_path / "records").iterdir():
        path.unlink()
    written = []

    def stops_at_fifth(path, pairs):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path.name)
        return write(path, pairs)

    write = cutting.write_records
    monkeypatch.setattr(cutting, "write_records", stops_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        make_patches(chosen)
    assert sorted(contents(tmp_path / "records")) == sorted([*written, "plan.json"])
    (tmp_path / "records" / "train-x.partial").write_bytes(b"half")
    monkeypatch.setattr(cutting, "write_records", lambda path, pairs: written.append(path.name) or write(path, pairs))
    make_patches(chosen)
    assert contents(tmp_path / "records") == whole
    assert len(written) == len(set(written)) == 8
    make_patches(chosen)
    assert (contents(tmp_path / "records"), len(written)) == (whole, 8)
    monkeypatch.setattr(cutting, "write_records", stops_at_fifth)
    written.clear()
    with pytest.raises(KeyboardInterrupt):
        make_patches(replace(chosen, seed=1))
    assert sorted(contents(tmp_path / "records")) == sorted([*written, "plan.json"])  # no index of other files


@pytest.mark.parametrize("resized", [False, True])
def test_a_truncated_file_is_made_again(tmp_path, resized):
    """A file that is empty, or ends within a record, or between two, is not taken for complete; nor is a stranger's."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    chosen = settings(tmp_path, resized=resized)
    make_patches(chosen)
    whole = contents(tmp_path / "records")
    (path,) = shards(tmp_path, "train")
    length = record_length(256)
    assert path.stat().st_size == 4 * length
    for size in (0, 100, 4 * length - 1) if resized else (0, 100, 4 * length - 1, 3 * length, 4 * length + 1, 5 * length):
        os.truncate(path, size)
        (tmp_path / "records/train-x.17.partial").write_bytes(b"half")
        (tmp_path / "records/train-x.tfrecord").write_bytes(b"of another plan")
        make_patches(chosen)
        assert contents(tmp_path / "records") == whole


def test_files_with_fewer_places_than_planned_are_complete(tmp_path, monkeypatch):
    """Random sides may find less than there is room for: such a file is not made again and again."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    chosen = settings(tmp_path, resized=True)
    sample = cutting.sample_patches
    monkeypatch.setattr(cutting, "sample_patches", lambda mask, count, *rest: sample(mask, count, *rest)[:1])
    assert make_patches(chosen)["patches"] == {"train": 2, "validation": 1}
    monkeypatch.undo()
    assert make_patches(chosen)["patches"] == {"train": 2, "validation": 1}


def test_other_settings_or_series_replace(tmp_path):
    """Records of other settings or other pixels do not stay; what is not ours does."""
    write_pair(tmp_path / "ct", volume(3), volume(3, seed=1))
    make_patches(settings(tmp_path))
    (tmp_path / "records/train-notes.txt").write_text("mine")
    first = contents(tmp_path / "records")
    make_patches(settings(tmp_path, seed=5))
    second = contents(tmp_path / "records")
    assert len(shards(tmp_path, "train")) == len(shards(tmp_path, "validation")) == 1
    assert not {n for n in first if n.endswith("tfrecord")} & second.keys()
    assert second["train-notes.txt"] == b"mine"
    write_series(tmp_path / "ct", volume(3, seed=7), "SOFT", 2)
    make_patches(settings(tmp_path, seed=5))
    np.testing.assert_array_equal(records(tmp_path, "train")[:, 1], volume(3, seed=7)[:2])


def test_disk_too_small(cohort, tmp_path, monkeypatch, capsys):
    """The size is said beforehand; where it does not fit nothing is written and nothing removed."""
    make_patches(cohort_settings(cohort, tmp_path / "records"))
    before = contents(tmp_path / "records")
    assert "48 patches in 16 files, 0 complete; 0.01 GB to write" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**8))
    with pytest.raises(OSError, match=r"needs 3\.\d\d GB for records and its disk has 0\.00 GB to give: free space"):
        make_patches(cohort_settings(cohort, tmp_path / "records", patches_per_slice=300, resized=True))
    assert contents(tmp_path / "records") == before


@pytest.mark.parametrize("output", ["file", "file/records", "closed"])
def test_an_unusable_output_is_said_first(tmp_path, monkeypatch, output):
    """A file in the way, or a folder without permission, is refused before input is searched; nothing is changed."""
    (tmp_path / "file").write_text("mine")
    reasons = {"file": "File exists", "file/records": "Not a directory", "closed": "Permission denied"}

    def closed(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", closed)
    chosen = settings(tmp_path, input_dir=(str(tmp_path / "nowhere"),), output_dir=str(tmp_path / output))
    found = rf"^cannot write to --output_dir={tmp_path / output} \({reasons[output]}\): choose another$"
    with pytest.raises(OSError, match=found):
        make_patches(chosen)
    assert (tmp_path / "file").read_text() == "mine"


def script_flags(folder):
    """Two patches from each slice of `folder/ct` into `folder/records`."""
    flags = [f"--input_dir={folder / 'ct'}", f"--output_dir={folder / 'records'}", "--source_kernels=SHARP"]
    return [*flags, "--target_kernel=SOFT", "--split=blocks", "--block=1", "--patches_per_slice=2", "--margin=0"]


def test_a_worker_that_is_killed(tmp_path, monkeypatch):
    """A worker that the system ends is told with what to do; the same command with one worker completes the records."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    (tmp_path / "killed.py").write_text("import os, signal\ndef survey(*_):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("stan_ct.patches.records.survey", import_module("killed").survey)
        done = commands.run("make-patches", *script_flags(tmp_path), "--workers=2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "make-patches: a worker was killed, for lack of memory perhaps: try fewer --workers; the same command goes on"
    )
    assert "Traceback" not in done.stderr
    assert commands.run("make-patches", *script_flags(tmp_path), "--workers=1").returncode == 0
    assert len(records(tmp_path, "train")) == 4


def test_systems_without_affinity(tmp_path, monkeypatch):
    """Where the system does not say which cores are usable the command uses all of them."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    monkeypatch.delattr(os, "sched_getaffinity")
    done = commands.run("make-patches", *script_flags(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'records'}: 4 train patches, 2 validation patches\n")


def test_nan_on_the_command_line(tmp_path):
    """A flag that is no number ends with a message, not a traceback."""
    for flag in ("--validation_fraction=nan", "--test_fraction=nan", "--target_thickness=nan", "--thicknesses=1,nan"):
        done = commands.run("make-patches", *script_flags(tmp_path), flag)
        name = flag.partition("=")[0]
        assert (done.returncode, done.stderr) == (1, f"make-patches: {name} expects a finite number, not nan\n")


def test_script(cohort, tmp_path):
    """The script tells what it made by protocol, takes the old name of --source_kernels, and needs no TensorFlow."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    flags = [
        f"--input_dir={cohort / 'ct/train'}",
        "--target_kernel=T",
        f"--output_dir={tmp_path / 'records'}",
        "--source_kernel=A",
        "--thicknesses=3",
        "--patches_per_slice=2",
        "--workers=1",
        "--margin=1",
    ]
    command = [sys.executable, ROOT / "data/make_patches.py", *flags]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'records'}: 6 train patches, 6 validation patches",
        "  train      A 3 mm -> T 3 mm                  1 pairs of series      3 slices       6 patches",
        "  validation A 3 mm -> T 3 mm                  1 pairs of series      3 slices       6 patches",
    ]
    assert read_index(tmp_path / "records")["settings"]["thicknesses"] == [3.0]
    bad = commands.run("make-patches", *flags, "--split=folders")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("make-patches: --split=folders expects folders train, validation")


@pytest.mark.parametrize("name", ["philips", "default", "paper"])
def test_flagfiles(name, tmp_path):
    """Every preset of patches is understood, and only the input is missing."""
    flags = [f"--input_dir={tmp_path / 'nowhere'}", f"--output_dir={tmp_path / 'records'}"]
    done = commands.run("make-patches", f"--flagfile={ROOT / f'data/flags/{name}_patches.flags'}", *flags)
    assert done.returncode == 1
    assert done.stderr.startswith("make-patches: ")
    assert "nowhere" in done.stderr
