"""`benchmarks/reproduce.py`: what is done is not done again, and what is claimed follows from the tables."""

import importlib.util
import json
from pathlib import Path

import pytest

from stan_ct.reconstruction.settings import PAPER_ROWS
from stan_ct.report.files import to_json
from stan_ct.report.sections import Cell, Provenance, Report, Table

NAN = float("nan")
ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("reproduce", ROOT / "benchmarks" / "reproduce.py")
reproduce = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reproduce)


@pytest.fixture
def scripts(monkeypatch):
    """The command lines that would be run; a script called `broken` fails."""
    ran = []

    class Done:
        def __init__(self, command):
            self.returncode = 7 if "broken" in command[1] else 0

    def run(command, **_):
        ran.append(command[1:])
        Path(command[-1].removeprefix("--output_dir=")).mkdir(parents=True, exist_ok=True)
        return Done(command)

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    return ran


def test_a_step_is_done_once(scripts, tmp_path):
    """The same command is not run again; another one is, in an empty folder; a failure ends all with its exit code."""
    steps = reproduce.Steps(tmp_path)
    assert steps("models/a", "train.py", "--x=1") == tmp_path / "models/a"
    steps("models/a", "train.py", "--x=1")
    assert scripts == [["train.py", "--x=1", f"--output_dir={tmp_path / 'models/a'}"]]
    (tmp_path / "models/a/old").touch()
    steps("models/a", "train.py", "--x=2")
    assert len(scripts) == 2
    assert not (tmp_path / "models/a/old").exists()
    with pytest.raises(SystemExit) as stopped:
        steps("b", "broken.py")
    assert stopped.value.code == 7
    (tmp_path / "b/half").touch()
    with pytest.raises(SystemExit):
        steps("b", "broken.py")
    assert (tmp_path / "b/half").exists(), "a step that was stopped goes on with what it has"


def write_tables(folder, tables):
    """`report.json` with tables of such keys, as the product writes it."""
    made = []
    for key, rows in tables.items():
        columns = tuple(dict.fromkeys(column for cells in rows.values() for column in cells))
        cells = {row: tuple(Cell(found.get(c, NAN), reason="not needed") for c in columns) for row, found in rows.items()}
        made.append(Table(f"The {key}", "", columns, cells, key=key))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(to_json(Report("", tuple(made), Provenance("", {}, {}, {}, {}, {}, "")), {}))


def errors(**rows):
    return {name: dict(zip(reproduce.FEATURES, values, strict=True)) for name, values in rows.items()}


def write_study(folder, kernels=("BR40", "BL57")):
    """Tables in which STAN-CT beats GANai in 5 of 5 for BL57 and in 3 of 5 for BR40, and the ablations as well."""
    better, worse, table_1 = [0.1] * 5, [0.2] * 5, {}
    for kernel in kernels:
        rows = {
            "source": worse,
            "GANai": worse if kernel == "BL57" else [0.2, 0.2, 0.2, 0.05, 0.05],
            "STAN-CT": better,
            "STAN-CT without L_lat": worse,
            "STAN-CT without L_feat": worse,
            reproduce.OURS: [0.01, 0.02, 0.03, 0.02, 0.3],
        }
        subject = f"{kernel.lower()}_to_bl64"
        table_1[f"errors_{subject}"] = errors(**rows)
        table_1[f"concordance_{subject}"] = {reproduce.OURS: {"share": 0.96, "mean": 0.5}}
        table_1[f"hu_{subject}"] = {reproduce.OURS: {"bias, lung": -3.0, "bias, fat": 0.5, "RMSE": 50}}
        contrast = {row: {"contrast": value} for row, value in zip(PAPER_ROWS, (0.7, 0.5, 0.4, 0.2), strict=True)}
        series = errors(source=worse) | contrast | errors(**{reproduce.SHIPPED: [0.01] * 5})
        written = {
            "errors_written_dicom": series,
            "concordance_written_dicom": {reproduce.SHIPPED: {"share": 0.9}},
            "hu_written_dicom": {reproduce.SHIPPED: {"bias, lung": 1.0}},
        }
        write_tables(folder / f"table_2_{kernel}", written)
    write_tables(folder / "table_1", table_1)
    for row in reproduce.PRESETS:
        model = folder / "models" / reproduce.PRESETS[row]
        model.mkdir(parents=True)
        (model / "validation.csv").write_text("version,error\n0,0.5\n1,0.4\n2,0.3\n")
        losses = (("d", 0, 0.5), ("d", 0, 0.5), ("g", 1, 0.5), ("g", 1, 0.2), ("d", 2, 0.2), ("d", 2, ""), ("d", 2, 0.2))
        lines = "".join(f"{kind},{phases},{value}\n" for kind, phases, value in losses)
        (model / "history.csv").write_text(f"phase,phases,latent_validation\n{lines}")


def claims_of(folder):
    kernels = ["BR40", "BL57"]
    models = {row: folder / "models" / preset for row, preset in reproduce.PRESETS.items()}
    tables = {kernel: folder / f"table_2_{kernel}" for kernel in kernels}
    return reproduce.claims(folder / "table_1", tables, models, kernels)


def test_claims(tmp_path):
    """Yes and no follow from the numbers, which stand beside them."""
    write_study(tmp_path)
    text = claims_of(tmp_path)
    for line in (
        "| BL57: STAN-CT below GANai in 5 of 5 features | yes, in 5 |",
        "| BR40: STAN-CT below GANai in 4 of 5 features | **no**, in 3 |",
        "| STAN-CT below STAN-CT without L_lat | yes: BR40 5 of 5, BL57 5 of 5 |",
        "yes: 0.700 → 0.500 → 0.400 → 0.200",
        "yes: mean change -0.3 in a G-phase, +0 in a D-phase",
        "BR40, test patches, STAN-CT with front end: errors ≤ 0.03 | **no**: 0.010 0.020 0.030 0.020 0.300; lowest row in",
        "BR40, test patches, STAN-CT with front end: CCC ≥ 0.85 for ≥ 95 % of features | yes: 96% |",
        "BR40, test patches, STAN-CT with front end: bias ≤ 2 HU in every tissue | **no**: lung -3.0, fat +0.5 |",
        "BL57, written DICOM, the model that ships: errors ≤ 0.03 | yes: 0.010 0.010 0.010 0.010 0.010",
        "BL57, written DICOM, the model that ships: CCC ≥ 0.85 for ≥ 95 % of features | **no**: 90% |",
        "STAN-CT 0.500 → 0.400 (best 0.300)",
    ):
        assert line in text, text


def test_every_scale_has_its_flags():
    """Three files for each scale; rows of Table 1 exist as presets."""
    folder = ROOT / "data" / "flags"
    for scale in ("smoke", "laptop", "paper"):
        for part in ("patients", "patches", "train"):
            assert (folder / "reproduce" / f"{scale}_{part}.flags").is_file()
    assert all((folder / f"{preset}.flags").is_file() for preset in reproduce.PRESETS.values())


def test_links_to_test_series(tmp_path):
    """One link for each test patient, to its 1 mm series in that kernel; a second call leaves them."""
    for patient in ("SIM1", "SIM2"):
        for name in ("BR40_1mm", "BR40_3mm", "BL64_1mm"):
            (tmp_path / "patients/test" / patient / name).mkdir(parents=True)
    for _ in range(2):
        links = reproduce.series_of(tmp_path / "patients", "BR40", tmp_path)
    assert {link.name: link.resolve().name for link in links.iterdir()} == {"SIM1": "BR40_1mm", "SIM2": "BR40_1mm"}


def test_notes_are_json(scripts, tmp_path):
    """What was done is kept as the command it was done by."""
    reproduce.Steps(tmp_path)("a", "x.py", "--y")
    assert json.loads((tmp_path / "done/a.json").read_text())[:2] == ["x.py", "--y"]
