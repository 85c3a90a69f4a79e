"""Settings -> a report: what is in it, and that it claims nothing that was not done."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patch_folders import write_folder
from synthetic import write_ct

from stan_ct.errors import NotComparable
from stan_ct.evaluation import run, table_2
from stan_ct.evaluation.measure.patches import Method
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.methods.provenance import settings_of, versions
from stan_ct.evaluation.run import evaluate
from stan_ct.evaluation.settings import Evaluation, named_directories
from stan_ct.features.glcm import Discretization
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.reconstruction.settings import DEFAULT, PAPER_ROWS, TABLE_2
from stan_ct.report.sections import FigureSection, Table, Text

RNG = np.random.default_rng(0)
SOURCE, TARGET = (RNG.normal(0, sd, (3, 24, 24)).round() for sd in (30, 90))


def method(name="ours", change=0.0):
    return Method(name, name, {}, lambda: lambda patches: (patches * 2 + change, np.ones(len(patches))))


def titles(report, kind):
    return [getattr(s, "title", getattr(s, "name", "")) for s in report.sections if isinstance(s, kind)]


def text(report):
    """The only text of a report."""
    (section,) = [s for s in report.sections if isinstance(s, Text)]
    return section.text


@pytest.fixture
def series(tmp_path, write_series):
    """Source, output (half way to the target) and target."""
    for number, (name, hu) in enumerate({"source": SOURCE, "made": (SOURCE + TARGET) // 2, "target": TARGET}.items(), 1):
        write_series(tmp_path / name, hu, series=number)
    return SeriesSettings(tmp_path / "source", {"made": tmp_path / "made"}, tmp_path / "target")


@pytest.fixture
def records(tmp_path):
    """Twelve patches of two patients."""
    hu = RNG.normal(0, 60, (12, 2, 16, 16))
    return write_folder(tmp_path / "records", {("A", 1): hu[:6], ("A", 2): hu[6:]})


def test_patches_through_methods(records, tmp_path):
    """Table 1 with its tests, HU and concordance; the text counts what is known and says that slices are not."""
    report = evaluate(Evaluation(tmp_path / "out", (records,), models={"a": method("a"), "b": method("b", 3)}, resamples=50))
    assert titles(report, Table) == [
        "Table 1, A to SOFT",
        "Tests, A to SOFT",
        "HU, A to SOFT",
        "Concordance, A to SOFT",
        "Concordance by feature, A to SOFT",
    ]
    assert titles(report, FigureSection) == ["Errors, A to SOFT", "Concordance, A to SOFT"]
    said = text(report)
    assert f"12 test patches of 2 patients, in {records}." in said
    assert "CT (not said to be real or simulated; 2 patients)." in said  # and no word of slices
    assert "12 regions, segmented as follows: squares drawn at random" in said
    assert "The errors of every other row and those of b, patch by patch, were compared" in said
    assert "5 p values" in said
    assert "coefficient over patches, of these and of 20 first-order features" in said
    assert "percentiles of 50 bootstrap samples of patients" in said
    assert "No value was undefined" not in said  # no pixel of bone
    assert "because no pixel of this tissue" in said
    assert "Fixed bin number (K15C), 256 gray levels" in said


def test_sizes_of_gray_levels_are_not_called_their_number(records, tmp_path):
    """Bins of 25 HU are a fixed size, though 76 of them cover the same range as a fixed number of 76 would."""
    levels = Discretization.fixed_size(25)
    assert levels == Discretization.fixed_number(76)
    settings = Evaluation(tmp_path / "out", (records,), models={"ours": method()}, discretization=levels)
    assert "Fixed bin size (Q3RU), 76 gray levels of 25 HU" in text(evaluate(settings))


def test_one_patient_has_no_intervals(tmp_path):
    """Of one patient there are none, and the text says so."""
    folder = write_folder(tmp_path / "records", {("A", 1): RNG.normal(0, 60, (6, 2, 16, 16))})
    said = text(evaluate(Evaluation(tmp_path / "out", (folder,), models={"ours": method()})))
    assert "No confidence intervals were calculated." in said
    assert "bootstrap" not in said


def test_resized_patches_were_interpolated(tmp_path):
    """As the index says."""
    settings = {"target_kernel": "SOFT", "split": "blocks", "resized": True}
    folder = write_folder(tmp_path / "records", {("A", 1): RNG.normal(0, 60, (4, 2, 16, 16))}, settings=settings)
    said = text(evaluate(Evaluation(tmp_path / "out", (folder,), models={"ours": method()})))
    assert "Images were interpolated: patches of other sides were resized" in said
    assert "In the records blocks of slices of the same patients are held back from the training" in said


def test_two_folders_of_the_same_kernels_are_told_apart(records, tmp_path):
    """Their tables have names of their own."""
    other = write_folder(tmp_path / "more", {("A", 1): RNG.normal(0, 60, (4, 2, 16, 16))})
    report = evaluate(Evaluation(tmp_path / "out", (records, other), models={"ours": method()}, resamples=50))
    assert titles(report, Table)[::5] == ["Table 1, A to SOFT, records 1", "Table 1, A to SOFT, records 2"]


def test_series_against_the_target(series, tmp_path):
    """Slices and patches are counted; the one row beside the source is tested against it."""
    report = evaluate(Evaluation(tmp_path, series=series, data="pigs", real=False))
    assert titles(report, Table)[:2] == ["Series, written DICOM", "Tests, written DICOM"]
    assert "pigs (simulated; 1 patient, 3 slices)" in text(report)
    assert "3 square patches of 256 x 256" in text(report)
    assert "those of made, patch by patch" in text(report)
    assert "How the patients were separated from those of training was not recorded" in text(report)


def test_image_quality_of_series(series, tmp_path):
    """A row for every image, the target's too; what is half way to the target is closer; and the text says what it is."""
    report = evaluate(Evaluation(tmp_path, series=series))
    (table,) = [s for s in report.sections if isinstance(s, Table) and s.title == "Image quality, written DICOM"]
    assert list(table.rows) == ["source", "made", "target"]
    rmse = [np.sqrt(np.square(a - b).mean()) for a, b in zip((SOURCE + TARGET) // 2, TARGET, strict=True)]
    assert table.rows["made"][0].mean == pytest.approx(np.mean(20 * np.log10(1900 / np.array(rmse))))
    assert table.rows["source"][0].mean < table.rows["made"][0].mean < table.rows["target"][0].mean == np.inf
    assert "PSNR and SSIM (Gaussian windows" in text(report)
    assert "because the target's slice shows no lung" in text(report)


def test_without_a_target_only_before_and_after(series, tmp_path):
    """One table, no figure, and a text without errors, intervals, concordance and tests."""
    report = evaluate(Evaluation(tmp_path, series=replace(series, target_dir=None)))
    assert (titles(report, Table), titles(report, FigureSection)) == (["Features before and after"], [])
    assert "No errors against a target were calculated." in text(report)
    assert "PSNR and SSIM of the images were not measured." in text(report)
    nothing = "No confidence intervals were calculated. No concordance was calculated. No hypothesis was tested."
    assert nothing in text(report)
    assert report.sections[1].rows["made"][0].mean > report.sections[1].rows["source"][0].mean


def test_table_2_reconstructs_every_row(series, tmp_path, monkeypatch):
    """Each row's switches go to a folder of its own; the default is what the others are tested against."""
    requested = {}

    def reconstruct_row(source, model, switches, folder, command):
        requested[folder.name] = dict(switches)
        return series.synthesized["made"]

    monkeypatch.setattr(table_2, "reconstruct_row", reconstruct_row)
    monkeypatch.setattr(run, "model_sha256", lambda folder: f"hash of {folder}")
    model = tmp_path / "model"
    save_model(model, ModelConfig("m", "histogram", "A", "B", False, histogram=(-1000.0, 900.0)))
    report = evaluate(Evaluation(tmp_path / "out", series=series, table_2_model=model))
    table = report.sections[1]
    assert (table.title, table.key) == ("Table 2, written DICOM", "errors_written_dicom")
    assert list(table.rows) == ["source", "made", *TABLE_2]
    assert len(requested) == len(TABLE_2) == 11
    assert requested["straightforward"] == {"fusion": "straightforward"}
    paper = {"fusion": "stan_ct", "patch_layout": "random", "fusion_weights": "mean", "hu_rescale": "patch", "mask": "pixel"}
    assert (requested["STAN_CT_paper"], requested["STAN_CT_default"]) == (paper, {"fusion": "stan_ct"})
    assert "those of STAN-CT (default), patch by patch" in text(report)
    assert titles(report, FigureSection)[-1] == "Fig. 4, artefacts"
    assert report.provenance.models == {"Table 2": f"hash of {model}"}


def test_a_row_asks_for_its_switches(tmp_path, monkeypatch):
    """Every row is requested whatever its folder holds: what is kept is decided series by series, by their files."""
    calls = []
    monkeypatch.setattr(table_2, "reconstruct", lambda request: calls.append(request) or 0)
    for _ in range(2):
        given = {"fusion": "stan_ct", "mask": "pixel"}
        assert table_2.reconstruct_row(Path("a"), Path("m"), given, tmp_path / "row") == tmp_path / "row/series"
    request, again = calls
    assert request == again
    assert (request.input_dir, request.output_dir, request.models) == (Path("a"), tmp_path / "row", ("m",))
    assert (request.fusion, request.switches, request.allow_out_of_protocol) == ("stan_ct", {"mask": "pixel"}, True)
    assert request.overwrite


def test_a_row_is_made_again_when_a_source_file_changes(tmp_path):
    """The same folder with other pixels gives another row; the same pixels leave every file as it is."""
    config = ModelConfig("m", "histogram", "A", "B", False, histogram=(-1000.0, -100.0, 50.0, 900.0), qc_threshold=0.0)
    save_model(tmp_path / "model", config)
    hu = np.random.default_rng(0).integers(-300, 300, (2, 64, 64))

    def once(hu):
        write_ct(tmp_path / "ct", hu + 1024, kernel="A")
        table_2.reconstruct_row(tmp_path / "ct", tmp_path / "model", {"fusion": "straightforward"}, tmp_path / "row")
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "row").rglob("*.dcm")}

    first = once(hu)
    assert len(first) == 2
    assert once(hu) == first
    changed = once(hu + np.array([0, 40])[:, None, None])
    assert all(changed[name][1] != first[name][1] for name in first)


def test_nothing_that_was_standardized_is_no_row(tmp_path, monkeypatch):
    """The message names the report that says why."""
    monkeypatch.setattr(table_2, "reconstruct", lambda request: 3)
    with pytest.raises(NotComparable, match=r"nothing was standardized, see .*report\.html"):
        table_2.reconstruct_row(Path("a"), Path("m"), {"fusion": "overlap"}, tmp_path)


def test_a_row_that_is_not_there_is_refused_before_anything_is_measured(series, tmp_path):
    """With the names that there are; so is a name that Table 2 uses."""
    with pytest.raises(NotComparable, match="no row 'mine' to test the others against: choose one of ours, made"):
        Evaluation(tmp_path, (tmp_path,), {"ours": method()}, series=series, ours="mine")
    with pytest.raises(NotComparable, match="'straightforward' is a row of Table 2: give the synthesized series another name"):
        Evaluation(tmp_path, series=replace(series, synthesized={"straightforward": tmp_path}), table_2_model=Path("m"))


def test_histories_are_figures_3_and_5(tmp_path):
    """One for all, and one for each."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "validation.csv").write_text("version,step,g,error,contrast\n0,0,source,0.5,0.5\n1,9,0,0.2,0.2\n")
        lines = ["phase,phases,attempt,version,latent,latent_validation", "d,0,0,0,,", "g,1,0,0,0.5,", "g,1,0,0,0.4,0.3"]
        (tmp_path / name / "history.csv").write_text("\n".join(lines) + "\n")
    report = evaluate(Evaluation(tmp_path, histories={name: tmp_path / name for name in ("a", "b")}))
    assert titles(report, FigureSection) == ["Fig. 3, errors by version", "Fig. 5, latent loss, a", "Fig. 5, latent loss, b"]


def test_names_of_directories():
    """NAME=DIR, or the directory's own name, wherever it lies; equal or empty names are refused."""
    assert named_directories(["a=x/y", "z/series/"]) == {"a": Path("x/y"), "series": Path("z/series")}
    assert list(named_directories(["."])) == [Path.cwd().name]
    for wrong in (["=x"], ["a="]):
        with pytest.raises(ValueError, match="expected NAME=DIR or DIR, got"):
            named_directories(wrong)
    with pytest.raises(ValueError, match="two directories have one name, series, series: give NAME=DIR"):
        named_directories(["a/series", "b/series"])


def test_flags_that_are_given_several_times():
    """Their values are listed; switches without a value are not settings of the report."""
    assert settings_of("--a=1\n--b=x\n--a=2\n--nosimulated\n--models=m=/d\n") == {"a": "1, 2", "b": "x", "models": "m=/d"}


def test_versions_are_of_what_is_installed():
    """A package that is not there has none."""
    found = versions("no-such-package")
    assert found["numpy"] == np.__version__
    assert "no-such-package" not in found
    assert next(iter(found)) == "stan-ct"


def test_table_2_has_the_papers_four_rows_first():
    """In the paper's order, before the switches."""
    assert list(TABLE_2)[:4] == ["straightforward", "w/ overlap check", "w/ real/fake check", "STAN-CT (paper)"]
    assert list(PAPER_ROWS) == list(TABLE_2)[:4]
    assert DEFAULT in TABLE_2
