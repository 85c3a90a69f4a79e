"""Table 1's rows: the same patches through every method, measured once."""

import json

import numpy as np
import pytest
from patch_folders import FILTER, write_folder

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.measurement import MEASURES, measure_features
from stan_ct.evaluation.measure.patches import Method, measure_methods, read_test_patches
from stan_ct.features.glcm import Discretization

LEVELS = Discretization.fixed_number()
PATCHES = np.random.default_rng(0).integers(-400, 400, (5, 3, 16, 16))
"""Source, filtered source and target of five patches."""


def plain(name="ours", sha256="a", change=0.0, calls=None):
    """A method that adds a number of HU, and counts how often it is loaded."""

    def load():
        if calls is not None:
            calls.append(name)
        return lambda patches: (patches + change, np.ones(len(patches)))

    return Method(name, sha256, {}, load)


@pytest.fixture
def folder(tmp_path):
    """Two patients in kernel A, of three and one patches, and one in B."""
    pairs = PATCHES[:, [0, 2]]
    return write_folder(tmp_path / "records", {("A", 7): pairs[:3], ("B", 7): pairs[3:4], ("A", 9): pairs[4:]})


def measured(test, methods, cache, levels=LEVELS, workers=1):
    return measure_methods(test, methods, levels, cache, workers, say=lambda line: None)


def test_patches_are_read_by_source_kernel_with_their_patients(folder):
    """Each kernel is a table of its own; a patch keeps its patient's number."""
    a, b = read_test_patches(folder)
    assert (a.kernel, a.target_kernel, a.patients.tolist()) == ("A", "SOFT", [7, 7, 7, 9])
    assert (b.kernel, b.patients.tolist()) == ("B", [7])
    source, target, again = (np.concatenate(some) for some in zip(*a.chunks("source"), strict=True))
    np.testing.assert_array_equal(source, PATCHES[[0, 1, 2, 4], 0])
    np.testing.assert_array_equal(target, PATCHES[[0, 1, 2, 4], 2])
    np.testing.assert_array_equal(again, source)
    assert a.described == f"4 test patches of 2 patients, in {folder}"
    assert a.separation.startswith("In the records whole patients are either of the training or of the test")


def test_a_split_without_patches_is_refused_with_what_there_is(folder):
    """The message names the parts that have patches."""
    with pytest.raises(NotComparable, match=r"holds no validation patches, it has test: .*--split"):
        read_test_patches(folder, "validation")


def test_of_a_patch_with_a_margin_the_middle_is_measured(tmp_path):
    """Training patches are larger than a network's patch by their margin: 256 of 264 pixels are taken, 4 from each side."""
    hu = np.arange(264 * 264).reshape(1, 1, 264, 264).repeat(2, axis=1) % 999
    (test,) = read_test_patches(write_folder(tmp_path / "r", {("A", 1): hu}, split="train"), "train")
    ((source, target, _),) = test.chunks("source")
    np.testing.assert_array_equal(source[0], hu[0, 0, 4:260, 4:260])
    np.testing.assert_array_equal(target, source)


def test_rows_are_target_source_and_methods(folder, tmp_path):
    """The source's and the target's rows are measured as they lie; a method's are those of what it makes of the source."""
    test, _ = read_test_patches(folder)
    rows = measured(test, [plain("bright", "a", 30.0), plain("same", "b")], tmp_path)
    assert list(rows) == ["target", "source", "bright", "same"]
    patches = PATCHES[[0, 1, 2, 4]]
    np.testing.assert_array_equal(rows["target"].features, measure_features(patches[:, 2], LEVELS))
    np.testing.assert_array_equal(rows["same"].features, rows["source"].features)
    mean = MEASURES.index("first-order mean")
    np.testing.assert_allclose(rows["bright"].features[:, mean], patches[:, 0].mean(axis=(1, 2)) + 30)
    difference = (patches[:, 0] - patches[:, 2]).sum(axis=(1, 2))
    np.testing.assert_allclose(rows["source"].hu[:, 0, 1], difference)
    np.testing.assert_allclose(rows["bright"].hu[:, 0, 1], difference + 30 * 256)
    assert (rows["target"].hu[..., 1:] == 0).all()


def test_only_pixels_of_the_sources_soft_tissue_are_compared(tmp_path):
    """HU above 900 in the source do not count, whatever the method makes of them; those that it lifts above 900 do."""
    hu = np.zeros((1, 2, 16, 16))
    hu[0, 0], hu[0, 0, :4] = 890, 1200
    (test,) = read_test_patches(write_folder(tmp_path / "r", {("A", 1): hu}))
    rows = measured(test, [plain("ours", "a", 30.0)], tmp_path)
    assert rows["ours"].hu[0, 0].tolist() == [192, 192 * 920, 192 * 920, pytest.approx(192 * 920**2)]


def test_two_processes_find_what_one_finds(tmp_path):
    """The numbers do not depend on how many processes measure."""
    (test,) = read_test_patches(write_folder(tmp_path / "r", {("A", 1): PATCHES[:, :2].repeat(8, axis=0)}))
    one, two = (measured(test, [plain()], tmp_path / str(workers), workers=workers) for workers in (1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name].features, two[name].features)
        np.testing.assert_array_equal(one[name].hu, two[name].hu)


def test_a_measured_row_is_not_measured_again(folder, tmp_path):
    """What is kept is the same; another model, other gray levels, other records and another kernel are measured anew."""
    calls = []
    (a, b), cache = read_test_patches(folder), tmp_path / "cache"
    first = measured(a, [plain(calls=calls)], cache)
    again = measured(a, [plain(calls=calls), plain("renamed", calls=calls)], cache)
    assert calls == ["ours"]
    np.testing.assert_array_equal(again["renamed"].features, first["ours"].features)
    np.testing.assert_array_equal(again["ours"].hu, first["ours"].hu)
    measured(a, [plain("other", sha256="b", calls=calls)], cache)
    measured(a, [plain("levels", calls=calls)], cache, Discretization.fixed_number(64))
    measured(b, [plain("kernel", calls=calls)], cache)
    other = write_folder(tmp_path / "other", {("A", 7): PATCHES[:, [0, 2]]}, plan='{"seed": 1}')
    measured(read_test_patches(other)[0], [plain("records", calls=calls)], cache)
    assert calls == ["ours", "other", "levels", "kernel", "records"]


def test_a_run_that_is_stopped_leaves_whole_rows_only(folder, tmp_path):
    """Rows before the stop are kept, of the one that was being measured there is nothing, and the next run makes it."""
    test, _ = read_test_patches(folder)

    def stop(patches):
        raise KeyboardInterrupt

    broken = Method("ours", "a", {}, lambda: stop)
    with pytest.raises(KeyboardInterrupt):
        measured(test, [broken], tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2  # target, source
    assert measured(test, [plain()], tmp_path / "cache")["ours"].features.shape == (4, len(MEASURES))


def test_a_row_that_cannot_be_written_is_not_there(folder, tmp_path, monkeypatch):
    """A stop in the middle of writing leaves no file that passes for a row."""
    test, _ = read_test_patches(folder)

    def half(file, **arrays):
        file.write(b"PK")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space left"):
        measured(test, [plain()], tmp_path / "cache")
    monkeypatch.undo()
    assert list(measured(test, [plain()], tmp_path / "cache")) == ["target", "source", "ours"]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-40], lambda data: data[:600] + b"\0" + data[601:]])
def test_a_damaged_row_is_measured_again(folder, tmp_path, damage):
    """A measurement that was emptied, cut off or changed on the disk counts as none."""
    calls, cache = [], tmp_path / "cache"
    test, _ = read_test_patches(folder)
    first = measured(test, [plain(calls=calls)], cache)
    for path in cache.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    again = measured(test, [plain(calls=calls)], cache)
    assert calls == ["ours", "ours"]
    np.testing.assert_array_equal(again["ours"].features, first["ours"].features)


def test_each_thickness_is_a_row_of_its_own(tmp_path):
    """Records for a standard thickness are measured by kernel and thickness, each with its own filter."""
    folder = write_folder(tmp_path / "r", {("A", 1): PATCHES[:2], ("A", 2): PATCHES[2:]}, filtered=FILTER)
    index = json.loads((folder / "index.json").read_text())
    index["settings"] |= {"pairing": "standard", "target_thickness": 1.0}
    index["front_end"] = {"A 1 mm": FILTER, "A 3 mm": FILTER | {"gain": [1.0, 3.0]}}
    for pair, thickness in zip(index["pairs"], (3.0, 1.0), strict=True):
        pair["source"]["slice_thickness"] = thickness
    (folder / "index.json").write_text(json.dumps(index))
    thin, thick = read_test_patches(folder)
    assert [(t.kernel, t.target_kernel, len(t.patients)) for t in (thin, thick)] == [
        ("A 1 mm", "SOFT 1 mm", 3),
        ("A 3 mm", "SOFT 1 mm", 2),
    ]
    assert (thin.front_end, thick.front_end) == (FILTER, FILTER | {"gain": [1.0, 3.0]})


def test_a_method_with_a_front_end_gets_filtered_patches(tmp_path):
    """Only the method whose filter made them; the others get the source."""
    (test,) = read_test_patches(write_folder(tmp_path / "r", {("A", 1): PATCHES}, filtered=FILTER))
    filtering = Method("filter", "f", {"A": {key: tuple(value) for key, value in FILTER.items()}}, plain().load)
    rows = measured(test, [filtering, plain()], tmp_path)
    np.testing.assert_array_equal(rows["filter"].features, measure_features(PATCHES[:, 1], LEVELS))
    np.testing.assert_array_equal(rows["ours"].features, measure_features(PATCHES[:, 0], LEVELS))


@pytest.mark.parametrize(
    ("made_with", "message"),
    [(None, "no filtered patches"), (FILTER | {"gain": [1.0, 3.0]}, "patches of another filter")],
)
def test_a_front_end_that_is_not_the_records_is_refused(tmp_path, made_with, message):
    """Before anything is measured, with what to do instead."""
    images = PATCHES if made_with else PATCHES[:, [0, 2]]
    (test,) = read_test_patches(write_folder(tmp_path / "r", {("A", 1): images}, filtered=made_with))
    with pytest.raises(
        NotComparable, match=f"'f' filters whole slices, .*{message}: test it on the records that it was trained"
    ):
        measured(test, [Method("f", "f", {"A": FILTER}, plain().load)], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_rows_of_one_name_are_refused(folder, tmp_path):
    """Neither two methods, nor one that is called as the source or the target."""
    test, _ = read_test_patches(folder)
    for names in (("x", "x"), ("source",), ("target", "x")):
        with pytest.raises(NotComparable, match="rows need different names, got target, source"):
            measured(test, [plain(name) for name in names], tmp_path)


def test_how_parts_are_kept_apart_is_said_and_no_more(tmp_path):
    """Blocks of the same patients are not called patients; what was checked for leaks is named; resizing is reported."""
    hu = {("A", 1): PATCHES[:, :2]}
    checked = {"leakage": {"Patient ID": 3, "slice pixels": 40}}
    (by_patient,) = read_test_patches(write_folder(tmp_path / "a", hu, **checked))
    assert "; no Patient ID, slice pixels is in both; that the models were trained on these" in by_patient.separation
    settings = {"target_kernel": "SOFT", "split": "blocks", "resized": True}
    (blocks,) = read_test_patches(
        write_folder(tmp_path / "b", hu, settings=settings, leakage="blocks of one study on both sides")
    )
    assert blocks.separation.startswith(
        "In the records blocks of slices of the same patients are held back from the training; that"
    )
    assert (blocks.resized, by_patient.resized) == (True, False)
    (unknown,) = read_test_patches(write_folder(tmp_path / "c", hu, settings={"target_kernel": "SOFT"}))
    assert unknown.separation == ""
    assert json.loads((tmp_path / "c/index.json").read_text())["settings"] == {"target_kernel": "SOFT"}


def test_a_method_that_sees_adjacent_slices(tmp_path):
    """It gets them as channels after the filtered source; records without them are refused."""
    hu = np.concatenate([PATCHES, PATCHES[:, 1:2] + 1, PATCHES[:, 1:2] + 2], axis=1)
    names = ["source", "filtered", "target", "adjacent-1", "adjacent+1"]
    folder = write_folder(tmp_path / "r", {("A", 1): hu}, filtered=FILTER)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"images": names}))
    seen = []

    def load():
        return lambda patches: (seen.append(patches) or patches[..., 0], np.ones(len(patches)))

    method = Method("ours", "a", {"A": FILTER}, load, adjacent_slices=1)
    (test,) = read_test_patches(folder)
    rows = measured(test, [method], tmp_path)
    np.testing.assert_array_equal(seen[0], np.moveaxis(hu[:, [1, 3, 4]], 1, -1))
    np.testing.assert_array_equal(rows["ours"].features, measure_features(PATCHES[:, 1], LEVELS))
    (test,) = read_test_patches(write_folder(tmp_path / "without", {("A", 1): PATCHES}, filtered=FILTER))
    with pytest.raises(NotComparable, match=r"sees adjacent slices, .* records made with --adjacent_slices=1"):
        measured(test, [method], tmp_path)
