"""The tables in docs/results were made with the flags of this repository, or docs/RESULTS.md says with which version."""

import csv
import io
import json
from pathlib import Path

import pytest
from reproduction import made_with, rows
from reproduction.data_sets import data_sets

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "docs/results").rglob(made_with.NOTE))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_flags_of_the_tables_are_those_of_the_repository(folder):
    """What `make reproduce` does now is what made the tables; where an earlier version did, what differs is named."""
    note = json.loads((folder / made_with.NOTE).read_text())
    found = {name: {flag: list(both) for flag, both in flags.items()} for name, flags in made_with.differences(folder).items()}
    assert found == note.get("differs", {}), (
        "flags that made docs/results are not those of the presets and of benchmarks/reproduction/rows.py: make the tables "
        "again, or put the flags back"
    )
    assert "commit" in note or not found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_every_trained_row_has_its_flags(folder):
    """And each flag file is of a row or a data set."""
    note = json.loads((folder / made_with.NOTE).read_text())
    tables = [path for path in folder.parent.glob("table_*.csv") if path.name.startswith(("table_1", "table_errors"))]
    named = {line["row"] for path in tables for line in csv.DictReader(io.StringIO(path.read_text()))}
    assert tables
    assert named - {rows.SOURCE, rows.HISTOGRAM, rows.FILTER} <= set(note["rows"].values())
    files = {path.stem for path in folder.glob("*.flags")}
    of_data = {stem for stem in files if stem.rpartition("_")[0] in data_sets(note["scale"])}
    assert files - of_data == set(note["rows"])
    assert of_data


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_tables_of_an_earlier_version_are_called_so(folder):
    """A table that the code of today cannot repeat names the commit that made it, in docs/RESULTS.md too."""
    note = json.loads((folder / made_with.NOTE).read_text())
    if "commit" in note:
        text = (ROOT / "docs/RESULTS.md").read_text()
        named = {value for flags in note.get("differs", {}).values() for both in flags.values() for value in both}
        assert all(word in text for word in (note["commit"], *named))


def test_there_are_tables():
    """The tests above have something to look at."""
    assert FOLDERS


def test_a_change_of_flags_is_seen(tmp_path):
    """Of a row and of a data set: with the value that made the table, and the value now."""
    row, data = rows.ROWS["STAN-CT"], data_sets("laptop")["1mm"]
    for name, text in made_with.flag_files("laptop", [row], [data]).items():
        (tmp_path / name).write_text(text)
    assert made_with.differences(tmp_path) == {}
    for name, now, then in (
        ("stan_ct.flags", "--residual=true", "--residual=false"),
        ("1mm_patients.flags", "--patients=20", "--patients=9"),
    ):
        path = tmp_path / name
        text = path.read_text()
        assert now in text
        path.write_text(text.replace(now, then))
    assert made_with.differences(tmp_path) == {
        "stan_ct.flags": {"residual": ("false", "true")},
        "1mm_patients.flags": {"patients": ("9", "20")},
    }


def test_a_flag_that_is_new_must_be_off(tmp_path):
    """A flag that a table's files do not know is a difference unless it changes nothing."""
    for name, text in made_with.flag_files("laptop", [rows.ROWS["ours"]], []).items():
        (tmp_path / name).write_text(text.replace("--upsampling=resize\n", "").replace("--adversarial_ratio=0.0\n", ""))
    assert made_with.differences(tmp_path) == {"ours.flags": {"upsampling": (None, "resize")}}
