"""The command as its user meets it: from files to a report, with flags that repeat it and errors in plain words."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

import commands
import numpy as np
import pytest
from patch_folders import FILTER, write_folder
from skimage.feature import graycomatrix, graycoprops

from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.table_2 import reconstruct_table_2
from stan_ct.features.glcm import FEATURES
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig

KEPT = "1 of them kept from an earlier run"


def texture(seed, amplitude=100, slices=3, shape=(32, 40)):
    return np.random.default_rng(seed).normal(0, amplitude, (slices, *shape)).round().clip(-900, 800)


SOURCE, TARGET = texture(1, 30), texture(2, 100)


@pytest.fixture
def directories(tmp_path, write_series):
    """Source, synthesized (equal to the target, as STAN-CT marks what it writes) and target, in this order."""
    paths = tmp_path / "source", tmp_path / "synthesized", tmp_path / "target"
    write_series(paths[0], SOURCE, series=1, PatientID="SECRET")
    write_series(paths[1], TARGET, series=2, PatientID="SECRET", DerivationDescription="STAN-CT 1.0")
    write_series(paths[2], TARGET, series=3, PatientID="SECRET")
    return paths


def run(*arguments):
    return commands.run("evaluate", "--workers=1", *arguments)


def flags(directories, output):
    names = "--source_dir", "--synthesized_dir", "--target_dir", "--output_dir"
    return [text for pair in zip(names, (*directories, output), strict=True) for text in pair]


def cells(path):
    """(row, column) -> cell of a table's CSV."""
    return {(line["row"], line["column"]): line for line in csv.DictReader(path.read_text().splitlines())}


def phi(hu, feature):
    """The feature by scikit-image over the levels of the settings' words."""
    levels = np.floor((hu + 1000) / 1900 * 256).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    return graycoprops(graycomatrix(levels, [1], angles, 256, symmetric=True, normed=True), feature).mean()


def test_from_dicom_to_a_report(directories, tmp_path):
    """A synthesized series equal to the target has error 0; the source's errors are those of an independent count."""
    done = run(*flags(directories, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    found = cells(tmp_path / "out/table_errors_written_dicom.csv")
    assert list(found) == [(row, feature) for row in ("source", "synthesized") for feature in FEATURES]
    for feature in FEATURES:
        source, target = np.array([phi(hu, feature) for hu in SOURCE]), np.array([phi(hu, feature) for hu in TARGET])
        errors = np.abs(source - target) / np.abs(target)
        mean, sd, n = (float(found["source", feature][key]) for key in ("mean", "sd", "n"))
        assert (mean, sd, n) == (pytest.approx(errors.mean(), rel=1e-9), pytest.approx(errors.std(ddof=1), rel=1e-9), 3)
        assert [float(found["synthesized", feature][key]) for key in ("mean", "sd", "n")] == [0, 0, 3]
    hu = cells(tmp_path / "out/table_hu_written_dicom.csv")
    assert float(hu["source", "RMSE"]["mean"]) == pytest.approx(np.sqrt(np.mean((SOURCE - TARGET) ** 2)), rel=1e-9)
    assert float(hu["synthesized", "RMSE"]["mean"]) == 0

    report = (tmp_path / "out/report.md").read_text()
    assert "| synthesized | 0.000" in done.stdout
    assert done.stdout.endswith(f"All of it: {tmp_path}/out/report.html\n")
    for setting in ("3 square patches of 256 x 256", "stride of 128", "70%", "3 slices", "256 gray levels", "distance 1"):
        assert setting in report
    assert f"stan-ct evaluate --workers=1 --source_dir {directories[0]}" in report
    assert "Nothing was excluded." in report
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "report.md", "report.json", "evaluate.flags", "figure_errors_written_dicom.svg"} <= names
    for path in (tmp_path / "out").iterdir():
        assert b"SECRET" not in path.read_bytes(), path.name
        assert b"1-0.dcm" not in path.read_bytes(), path.name


def test_series_de_identified_apart(real_ct, tmp_path):
    """FC13 and FC51 of one scan of a phantom, under two identities: refused with the flag, and compared with it."""
    folder = real_ct / "pair_toshiba_phantom/chest"
    directories = folder / "FC13", folder / "FC51", folder / "FC51"
    done = run(*flags(directories, tmp_path / "out"), "--patch_size=64", "--stride=64")
    assert done.returncode == 1
    assert done.stderr.endswith("if they are of one scan and were de-identified apart, give --pair_by=position\n")
    assert not (tmp_path / "out").exists()
    done = run(*flags(directories, tmp_path / "out"), "--patch_size=64", "--stride=64", "--pair_by=position")
    assert done.returncode == 0, done.stderr
    assert "paired by grid, position and acquisition, not by study and patient" in (tmp_path / "out/report.md").read_text()
    hu = cells(tmp_path / "out/table_hu_written_dicom.csv")
    assert float(hu["FC51", "RMSE"]["mean"]) == 0 < float(hu["source", "RMSE"]["mean"])


def test_saved_flags_repeat_the_run(directories, tmp_path):
    """`--flagfile OUT/evaluate.flags` repeats a run, settings that are no defaults included."""
    first = run(*flags(directories, tmp_path / "out"), "--bin_width", 25, "--patch_size", 16, "--stride", 8, "--data=pigs")
    saved = (tmp_path / "out/evaluate.flags").read_text()
    again = run("--flagfile", tmp_path / "out/evaluate.flags", "--output_dir", tmp_path / "again")
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    for name in (path.name for path in (tmp_path / "out").glob("*.csv")):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "out" / name).read_text()
    assert (tmp_path / "again/evaluate.flags").read_text() == saved.replace(f"{tmp_path}/out", f"{tmp_path}/again")
    assert "Fixed bin size (Q3RU), 76 gray levels of 25 HU" in (tmp_path / "out/report.md").read_text()
    assert f"{3 * 3 * 4} square patches of 16 x 16" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--output_dir": None}, "--output_dir is missing"),
        ({"--target_dir": "/nowhere"}, "/nowhere does not exist"),
        ({"--levels": "1"}, "expected 2 to 2048 gray levels"),
        ({"--colour": "red"}, "unknown flag --colour"),
        ({"--only_instances": "/nowhere.txt"}, "/nowhere.txt"),
        ({"--source_dir": None}, "comparing series needs --source_dir"),
        ({"--synthesized_dir": None}, "needs --source_dir, and --synthesized_dir or --table_2_model"),
        ({"--models": "a=/nowhere"}, "Table 1 needs both --records_dir and --models"),
        ({"--ours": "mine"}, "no row 'mine' to test the others against: choose one of synthesized"),
        ({"--reader_answers": "a.csv"}, "--reader_answers needs --reader_key"),
        ({"--target_dir": None, "--table_2_model": "/nowhere"}, "--table_2_model needs --source_dir and --target_dir"),
        (dict.fromkeys(("--source_dir", "--synthesized_dir", "--target_dir")), "nothing to evaluate: give"),
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


def test_help_lists_the_modes():
    """`--help` shows a command line for each."""
    text = run("--help").stdout
    for mode in ("--records_dir=R --models", "--synthesized_dir=NAME=DIR", "--table_2_model=MODEL", "--histories=NAME=MODEL"):
        assert f"{mode}" in text
    assert "--reader_study --source_dir=S" in text
    assert "--reader_answers=A.csv,B.csv --reader_key=KEY.json" in text


def test_only_instances(directories, tmp_path):
    """Only the listed source slices are compared; listed ones that are no source slices are counted."""
    listed = tmp_path / "held_back.txt"
    listed.write_text("1.2.826.0.1.3680043.8.498.1.1.2\n1.2.3\n")
    run(*flags(directories, tmp_path / "out"), "--only_instances", listed)
    report = (tmp_path / "out/report.md").read_text()
    assert "1 slice)" in report
    assert "2 source slices not among the instances to compare" in report
    assert "1 instances to compare that are no source slices" in report
    expected = abs(phi(SOURCE[1], "contrast") - phi(TARGET[1], "contrast")) / phi(TARGET[1], "contrast")
    found = cells(tmp_path / "out/table_errors_written_dicom.csv")
    assert float(found["source", "contrast"]["mean"]) == pytest.approx(expected, rel=1e-9)


def test_before_and_after_without_a_target(directories, tmp_path):
    """Features of both, and no error, of which there is none."""
    given = flags(directories, tmp_path / "out")
    done = run(*given[:4], *given[6:])
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.csv")] == ["table_features_before_and_after.csv"]
    found = cells(tmp_path / "out/table_features_before_and_after.csv")
    for row, images in (("source", SOURCE), ("synthesized", TARGET)):
        expected = np.mean([phi(hu, "contrast") for hu in images])
        assert float(found[row, "contrast"]["mean"]) == pytest.approx(expected, rel=1e-9)
    assert "No errors against a target were calculated." in (tmp_path / "out/report.md").read_text()


def test_flat_target_is_reported(tmp_path, write_series):
    """Errors against a flat target's zero dissimilarity and contrast are undefined, and the report says how many."""
    write_series(tmp_path / "a", SOURCE)
    write_series(tmp_path / "b", np.concatenate([TARGET[:2], np.full((1, 32, 40), 50)]), series=2)
    run(*flags((tmp_path / "a", tmp_path / "a", tmp_path / "b"), tmp_path / "out"))
    report = (tmp_path / "out/report.md").read_text()
    assert "Undefined, not averaged and not replaced: 4 because the target's feature is 0" in report
    found = cells(tmp_path / "out/table_errors_written_dicom.csv")
    counts = [(found["source", feature]["n"], found["source", feature]["undefined"]) for feature in FEATURES]
    assert counts == [("2", "1")] * 2 + [("3", "0")] * 3


def write_models(folder):
    """A filter that the records hold, one that they do not, and histogram matching to a target of 100 HU everywhere."""
    filtering = {"name": "f", "source_kernel": "A", "target_kernel": "SOFT", "sharpens": True}
    filtering |= {"hu_window": {"low": -1024.0, "high": 1500.0}, "front_end": {}}
    filtering |= {"format": 2, "generator": asdict(GeneratorConfig()), "discriminator": asdict(DiscriminatorConfig())}
    models = {
        "filter": filtering | {"method": "kernel_filter", "front_end": {"A": FILTER}},
        "other": filtering | {"method": "kernel_filter", "front_end": {"A": FILTER | {"gain": [1.0, 3.0]}}},
        "histogram": filtering | {"method": "histogram", "histogram": [100.0] * 8},
    }
    for name, config in models.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))


def test_table_1_of_models_without_networks(tmp_path):
    """A filter is measured on the records' filtered patches, histogram matching patch by patch; models carry their hash.

    Nothing is measured twice, and a model whose filter is not the records' is refused with what to do.
    """
    hu = np.random.default_rng(0).integers(-300, 300, (4, 3, 16, 16))
    write_models(tmp_path)
    records = write_folder(tmp_path / "records", {("A", 1): hu[:2], ("A", 2): hu[2:]}, filtered=FILTER)
    given = ["--records_dir", records, "--output_dir", tmp_path / "out"]
    models = f"filter={tmp_path}/filter,histogram={tmp_path}/histogram"
    done = run(*given, "--models", models)
    assert done.returncode == 0, done.stderr
    found = cells(tmp_path / "out/table_errors_a_to_soft.csv")
    errors = [abs(phi(p[1], "contrast") - phi(p[2], "contrast")) / phi(p[2], "contrast") for p in hu]
    assert float(found["filter", "contrast"]["mean"]) == pytest.approx(np.mean(errors), rel=1e-9)
    assert float(found["histogram", "contrast"]["mean"]) == 1  # 100 HU everywhere: its contrast is 0
    assert done.stdout.count(" measured\n") == 4
    hashes = json.loads((tmp_path / "out/report.json").read_text())["provenance"]["models"]
    assert {len(digest) for digest in hashes.values()} == {64}
    assert list(hashes) == ["filter", "histogram"]

    again = run(*given, "--models", f"renamed={tmp_path}/filter")
    assert again.stdout.count(" measured\n") == 0
    refused = run(*given, "--models", f"filter={tmp_path}/other")
    assert refused.returncode == 1
    assert "'filter' filters whole slices, and these records hold patches of another filter: test it on" in refused.stderr


def test_table_2_and_figure_4(tmp_path, write_series, capsys):
    """The source is reconstructed in every way, once; another model is another reconstruction."""
    rng = np.random.default_rng(0)
    write_series(tmp_path / "s", rng.normal(0, 50, (1, 264, 264)).round(), series=1)
    write_series(tmp_path / "t", rng.normal(0, 80, (1, 264, 264)).round(), series=2)
    write_models(tmp_path)
    given = ["--source_dir", tmp_path / "s", "--target_dir", tmp_path / "t", "--output_dir", tmp_path / "out"]
    done = run(*given, "--table_2_model", tmp_path / "filter")
    assert done.returncode == 0, done.stderr
    found = cells(tmp_path / "out/table_errors_written_dicom.csv")
    rows = list(dict.fromkeys(row for row, _ in found))
    assert (len(rows), rows[:2], rows[5]) == (12, ["source", "straightforward"], "STAN-CT (default)")
    assert float(found["STAN-CT (default)", "contrast"]["mean"]) < float(found["source", "contrast"]["mean"])
    assert (done.stdout.count("1 of 1 series written"), done.stdout.count(KEPT)) == (11, 0)
    assert (tmp_path / "out/fig_4_artefacts.png").exists()
    series, folder = SeriesSettings(tmp_path / "s", {}, tmp_path / "t"), tmp_path / "out/table_2"
    for model, kept in (("filter", 11), ("other", 0)):
        capsys.readouterr()
        assert len(reconstruct_table_2(series, tmp_path / model, folder).synthesized) == 11
        said = capsys.readouterr().out
        assert (said.count("1 of 1 series written"), said.count(KEPT)) == (11, kept)


def test_reader_study(directories, tmp_path):
    """A page and its key are written, and the page says nothing of who it is."""
    done = run(*flags(directories, tmp_path / "out"), "--reader_study", "--reader_slices=3", "--reader_seed=5")
    assert done.returncode == 0, done.stderr
    page, key = (Path(line.split(": ")[0]) for line in done.stdout.splitlines())
    assert "SECRET" not in page.read_text()
    content = json.loads(key.read_text())
    assert content["seed"] == 5
    assert [sorted(case["kinds"]) for case in content["cases"].values()] == [["synthesized", "target"]]
