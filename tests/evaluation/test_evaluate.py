"""From three directories of DICOM to the tables: who is compared with whom, and what is reported."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from skimage.feature import graycomatrix, graycoprops

from stan_ct.evaluation.glcm import FEATURES
from stan_ct.evaluation.metrics import Settings, measure
from stan_ct.evaluation.pairs import NotComparable, find_pairs
from stan_ct.evaluation.tables import write_together

SCRIPT = Path(__file__).parents[2] / "evaluate.py"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.2"


def texture(seed, amplitude=100, slices=3, shape=(32, 40)):
    return np.random.default_rng(seed).normal(0, amplitude, (slices, *shape)).round().clip(-900, 800)


SOURCE, TARGET = texture(1, 30), texture(2, 100)


@pytest.fixture
def directories(tmp_path, write_series):
    """Source, synthesized (equal to the target, as STAN-CT marks what it writes) and target, in this order."""
    paths = tmp_path / "source", tmp_path / "synthesized", tmp_path / "target"
    write_series(paths[0], SOURCE, series=1)
    write_series(paths[1], TARGET, series=2, DerivationDescription="STAN-CT 1.0")
    write_series(paths[2], TARGET, series=3)
    return paths


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def flags(directories, output):
    names = "--source_dir", "--synthesized_dir", "--target_dir", "--output_dir"
    return [text for pair in zip(names, (*directories, output), strict=True) for text in pair]


def test_from_dicom_to_tables(directories, tmp_path):
    """A synthesized series equal to the target has error 0; the source's errors are those of an independent count."""
    done = run(*flags(directories, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/errors.csv").read_text()
    assert text.startswith("image,feature,mean,sd,n\n")
    rows = {(row["image"], row["feature"]): row for row in csv.DictReader(text.splitlines())}
    assert list(rows) == [(image, feature) for image in ("source", "synthesized") for feature in FEATURES]
    for feature in FEATURES:
        source, target = np.array([phi(hu, feature) for hu in SOURCE]), np.array([phi(hu, feature) for hu in TARGET])
        errors = np.abs(source - target) / np.abs(target)
        mean, sd, n = (float(rows["source", feature][key]) for key in ("mean", "sd", "n"))
        assert (mean, sd, n) == (pytest.approx(errors.mean(), rel=1e-6), pytest.approx(errors.std(ddof=1), rel=1e-6), 3)
        assert [float(rows["synthesized", feature][key]) for key in ("mean", "sd", "n")] == [0, 0, 3]

    table = (tmp_path / "out/errors.md").read_text()
    assert table in done.stdout
    rmse = np.sqrt(np.mean((SOURCE - TARGET) ** 2))
    assert f"| {rmse:.1f} |\n" in table
    assert "| synthesized | " + "0.000 ± 0.000 | " * 5 + "0.0 |" in table
    for setting in ("3 patches of 256 x 256", "stride 128", "70%", "3 slices", "256 levels", "[-1000, 900] HU", "distance 1"):
        assert setting in table
    assert f"evaluate.py --source_dir {directories[0]}" in table
    assert "Left out:\n\n- nothing" in table
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["errors.csv", "errors.md", "evaluate.flags"]


def phi(hu, feature):
    """The feature by scikit-image over the levels of the settings' words."""
    levels = np.floor((hu + 1000) / 1900 * 256).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    return graycoprops(graycomatrix(levels, [1], angles, 256, symmetric=True, normed=True), feature).mean()


def test_saved_flags_repeat_the_run(directories, tmp_path):
    """`--flagfile OUT/evaluate.flags` repeats a run, settings that are no defaults included."""
    first = run(*flags(directories, tmp_path / "out"), "--bin_width", 25, "--patch_size", 16, "--stride", 8)
    saved = (tmp_path / "out/evaluate.flags").read_text()
    again = run("--flagfile", tmp_path / "out/evaluate.flags", "--output_dir", tmp_path / "again")
    assert (first.returncode, again.returncode) == (0, 0)
    assert (tmp_path / "again/errors.csv").read_text() == (tmp_path / "out/errors.csv").read_text()
    assert (tmp_path / "again/evaluate.flags").read_text() == saved.replace(f"{tmp_path}/out", f"{tmp_path}/again")
    assert "76 levels of 25 HU" in first.stdout
    assert f"{3 * 3 * 4} patches of 16 x 16" in first.stdout


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--target_dir": None}, "--target_dir must have a value"),
        ({"--target_dir": "/nowhere"}, "/nowhere does not exist"),
        ({"--levels": "1"}, "expected 2 to 2048 gray levels"),
        ({"--colour": "red"}, "Unknown command line flag 'colour'"),
        ({"--only_instances": "/nowhere.txt"}, "/nowhere.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_usage(directories, tmp_path, changed, message):
    """Bad usage ends with code 1, says what is wrong, shows no traceback, and writes no table."""
    given = flags(directories, tmp_path / "out")
    given = dict(zip(given[::2], given[1::2], strict=True)) | changed
    failed = run(*(text for name, value in given.items() if value is not None for text in (name, value)))
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(tmp_path.glob("out/*"))


def test_slices_meet_by_place_not_by_name_or_number(tmp_path, write_series):
    """A target in reverse order, with slices beyond the source's, is found by position."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", np.concatenate([TARGET, texture(9)])[::-1], series=2)
    flip = tmp_path / "b"
    for z in range(6):  # the volume was written upside down: mirror the positions
        _edit(flip / f"2-{z}.dcm", ImagePositionPatient=[-50.0, -50.0, 2.0 * (5 - z)])
    pairing = find_pairs(tmp_path / "a", tmp_path / "a", flip)
    assert [t.target.location for t in pairing.triples] == [t.source.location for t in pairing.triples] == [0, 2, 4]
    assert [t.target.path.name for t in pairing.triples] == ["2-5.dcm", "2-4.dcm", "2-3.dcm"]
    np.testing.assert_array_equal([t.load()[2].volume[0] for t in pairing.triples], TARGET)
    assert not +pairing.left_out


def _edit(path, **attributes):
    ds = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


@pytest.mark.parametrize(("shift", "paired"), [((0.009, 0, 0.09), 3), ((0.02, 0, 0), 0), ((0, 0.02, 0), 0), ((0, 0, 0.2), 0)])
def test_tolerance_of_the_place(tmp_path, write_series, shift, paired):
    """Slices meet within 0.01 mm in the plane and 0.1 mm along the normal, and no farther."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, shift=shift)
    if paired:
        assert len(find_pairs(tmp_path / "a", tmp_path / "a", tmp_path / "b").triples) == paired
    else:
        with pytest.raises(NotComparable, match="same matrix, pixel spacing, orientation and position"):
            find_pairs(tmp_path / "a", tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"PixelSpacing": [0.71, 0.71]}, "32 x 40 at 0.71/0.71 mm"),
        ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, "same matrix, pixel spacing, orientation"),
        ({"study": OTHER_STUDY}, "give directories of the same study"),
    ],
)
def test_other_grid_or_study_is_refused(tmp_path, write_series, attributes, message):
    """Slices on another grid or of another study are never compared; the message says which."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", TARGET, series=2, **attributes)
    with pytest.raises(NotComparable, match=message):
        find_pairs(tmp_path / "a", tmp_path / "a", tmp_path / "b")


def test_two_candidates_are_refused(directories, write_series):
    """Two target slices in one place are an error that names both files: no one is chosen silently."""
    write_series(directories[2], SOURCE, series=4)
    with pytest.raises(NotComparable, match=r"2 slices in the place .*3-0\.dcm.*4-0\.dcm"):
        find_pairs(*directories)


def test_two_sources_in_one_place_are_refused(directories, write_series):
    """Two source slices would share their partners, so that is an error too."""
    write_series(directories[0], TARGET, series=4)
    with pytest.raises(NotComparable, match="2 slices in the place"):
        find_pairs(*directories)


def test_missing_partners_are_counted(directories):
    """Slices without a partner, and files that cannot be read, are left out and counted by what is missing."""
    (directories[1] / "2-0.dcm").unlink()
    path = directories[2] / "3-1.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    measurement = measure(Settings(*directories))
    assert measurement.slices == 1
    assert measurement.left_out == {
        "target files refused: truncated": 1,
        "source slices without a synthesized slice in their place": 1,
        "source slices without a target slice in their place": 1,
    }


def test_only_instances(directories, tmp_path):
    """Only the listed source slices are compared; listed ones that are no source slices are counted."""
    listed = tmp_path / "held_back.txt"
    listed.write_text("1.2.826.0.1.3680043.8.498.1.1.2\n1.2.3\n")
    done = run(*flags(directories, tmp_path / "out"), "--only_instances", listed)
    assert "- 1 slices" in done.stdout
    assert "- 2 source slices not among the instances to compare" in done.stdout
    assert "- 1 instances to compare that are no source slices" in done.stdout
    expected = abs(phi(SOURCE[1], "contrast") - phi(TARGET[1], "contrast")) / phi(TARGET[1], "contrast")
    assert f"source,contrast,{expected:.6g}" in (tmp_path / "out/errors.csv").read_text()
    with pytest.raises(NotComparable, match="none of the 1 SOP Instances"):
        find_pairs(*directories, only_instances=["1.2.3"])


def test_stan_ct_is_read_as_synthesized_only(directories):
    """What STAN-CT wrote is neither a source nor a target."""
    source, synthesized, target = directories
    with pytest.raises(NotComparable, match="already_standardized"):
        find_pairs(synthesized, synthesized, target)
    with pytest.raises(NotComparable, match="already_standardized"):
        find_pairs(source, synthesized, synthesized)


def test_flat_target_is_reported(tmp_path, write_series):
    """Errors against a flat target's zero dissimilarity and contrast are undefined, and the table says how many."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", np.concatenate([TARGET[:2], np.full((1, 32, 40), 50)]), series=2)
    output = tmp_path / "out"
    done = run(*flags((tmp_path / "a", tmp_path / "a", tmp_path / "b"), output))
    assert "- 1 undefined errors of source dissimilarity: the target's feature is 0" in done.stdout
    counts = {row["feature"]: row["n"] for row in csv.DictReader((output / "errors.csv").read_text().splitlines())}
    assert counts == {"dissimilarity": "2", "contrast": "2", "homogeneity": "3", "energy": "3", "correlation": "3"}


def test_patches_need_soft_tissue_of_the_source(tmp_path, write_series):
    """A patch counts when 70 % of its source pixels are soft tissue, whatever the others hold there."""
    air = SOURCE.copy()
    air[:, :10], air[0, 9, :16] = -1010, 0  # rows 0..9 of 32 are air: 68.75 % soft tissue, in slice 0 above 70 %
    write_series(tmp_path / "a", air)
    write_series(tmp_path / "b", np.full_like(air, -1020) + 10 * (SOURCE > 0), series=2)
    directories = tmp_path / "a", tmp_path / "b", tmp_path / "b"
    measurement = measure(Settings(*directories))
    assert measurement.patches == 1
    assert measurement.left_out == {
        "patches with too little soft tissue": 2,
        "slices without any patch of enough soft tissue": 2,
    }
    with pytest.raises(NotComparable, match="none of 3 slices has a patch of which 90% is soft tissue"):
        measure(Settings(*directories, min_soft_tissue=0.9))


def test_hu_rmse_is_over_the_sources_soft_tissue(tmp_path, write_series):
    """Bone and air of the source do not count, and neither does the target's padding."""
    source, target = np.zeros((1, 10, 10)), np.full((1, 10, 10), 3.0)
    source[0, 0], target[0, 0] = 1500, 0  # bone
    target[0, 1, :5] = 7.0
    target[0, 2] = -1024  # padding
    write_series(tmp_path / "a", source)
    write_series(tmp_path / "b", target, series=2, PixelPaddingValue=0)
    rmse = measure(Settings(tmp_path / "a", tmp_path / "b", tmp_path / "b")).rmse
    assert rmse["source"] == pytest.approx(np.sqrt((75 * 9 + 5 * 49) / 80), rel=1e-12)
    assert rmse["synthesized"] == 0


def test_files_appear_together(tmp_path):
    """A file that cannot be written leaves the former ones as they were, and no debris."""
    write_together(tmp_path, {"a.txt": "old", "b.txt": "old"})
    with pytest.raises(UnicodeEncodeError):
        write_together(tmp_path, {"a.txt": "new", "b.txt": "\ud800"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "old", "b.txt": "old"}
