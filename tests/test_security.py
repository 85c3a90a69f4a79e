"""What SECURITY.md promises of the code as a whole: no pickles, no foreign code, no shell, no paths made of headers."""

import ast
import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from synthetic import random_stored, write_ct

from stan_ct.cli.main import main
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Instance, SeriesFiles

ROOT = Path(__file__).resolve().parents[1]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in (ROOT / "stan_ct").rglob("*.py")}
CODE_IN_DATA = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "yaml", "code"}
"""Modules that make code, or objects of any kind, of data; and others that no part of the product needs."""
LOADS_CODE = {"eval", "exec", "compile", "__import__"}
NAMES_OF_LOADERS = {"load_model", "load_weights", "load_pickle", "read_pickle", "unsafe_load", "run_path", "system", "popen"}
HOSTILE = (
    "<script>alert(1)</script>",
    "../../../../tmp/evil",
    "..\\..\\evil",
    "/etc/passwd",
    "a\0b",
    "=cmd|' /C calc'!A0",
    "CON",
    "\u202egnp.exe",
    "{{ 7*7 }}",
)


def calls(tree):
    """Name, dotted where it is, and keyword arguments of all calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def imported(tree):
    """First names of all modules that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_nothing_makes_code_of_data():
    """No pickle, no eval, no loader that could execute what it reads; NumPy's files are read with `allow_pickle=False`."""
    wrong = []
    for module, tree in TREES.items():
        wrong += [f"{module} imports {name}" for name in imported(tree) if name in CODE_IN_DATA]
        for name, words in calls(tree):
            short, head = name.split(".")[-1], name.split(".")[0]
            if name in LOADS_CODE or (short in NAMES_OF_LOADERS and head in ("keras", "tf", "os", "runpy", "pd", "pandas")):
                wrong.append(f"{module} calls {name}")
            if name in ("np.load", "numpy.load") and words.get("allow_pickle") != "False":
                wrong.append(f"{module} calls {name}")
            if words.get("shell") == "True" or words.get("allow_pickle") == "True" or words.get("safe_mode") == "False":
                wrong.append(f"{module} calls {name} unsafely")
    assert wrong == []
    assert any("json" in set(imported(tree)) for tree in TREES.values())  # the rule sees imports


def test_only_the_node_the_cluster_and_the_destinations_use_the_network():
    """Nothing else opens a connection, so nothing is downloaded and nothing is reported."""
    talkers = {
        module
        for module, tree in TREES.items()
        if {"requests", "urllib", "http", "socketserver", "pynetdicom", "distributed", "ftplib", "smtplib", "aiohttp"}
        & set(imported(tree))
    }
    assert {module for module in talkers if not module.startswith("stan_ct/node/")} <= {"stan_ct/cluster.py"}
    assert "stan_ct/node/send.py" in talkers


def test_templates_escape_everything():
    """Each environment of Jinja escapes, and no template switches that off."""
    environments = [(m, words) for m, tree in TREES.items() for name, words in calls(tree) if name.endswith("Environment")]
    assert len(environments) >= 2
    assert [module for module, words in environments if words.get("autoescape") != "True"] == []
    templates = list((ROOT / "stan_ct").rglob("*.j2"))
    assert len(templates) >= 4
    assert [path.name for path in templates if re.search(r"\|\s*safe|autoescape|Markup", path.read_text())] == []


@given(st.text(), st.text(), st.text())
def test_the_name_of_a_series_is_one_harmless_name(number, description, uid):
    """Whatever a header holds, the folder made of it is one name of letters, digits and hyphens."""
    header = type("Header", (dict,), {"__getattr__": lambda self, name: self[name]})(
        SeriesNumber=number, SeriesDescription=description, SeriesInstanceUID=uid
    )
    name = SeriesFiles((Instance("x", header),)).name  # type: ignore[arg-type]
    assert re.fullmatch(r"[A-Za-z0-9-]{1,60}", name)
    assert not name.startswith(".")


@pytest.mark.parametrize("flat", [False, True])
def test_hostile_headers_stay_words(tmp_path, flat):
    """Series whose headers hold markup, paths and formulas: nothing is written outside OUT, and the report shows words."""
    from faulty.runs import save_filter

    save_filter(tmp_path / "model")

    def edit(text):
        def change(dataset: Dataset, z: int) -> None:
            dataset.SpecificCharacterSet = "ISO_IR 192"
            for keyword in ("SeriesDescription", "PatientID", "PatientName", "ConvolutionKernel", "StudyID", "Manufacturer"):
                value = text if keyword == "PatientName" else text.replace("\\", "/")
                setattr(dataset, keyword, value[:16] if keyword in ("ConvolutionKernel", "StudyID") else value)

        return change

    for number, text in enumerate(HOSTILE):
        write_ct(tmp_path / "in" / f"{number}", random_stored((2, 40, 40), seed=number), series=number, edit=edit(text))
    assert find_series(tmp_path / "in").slices == 2 * len(HOSTILE)
    before = set(tmp_path.rglob("*"))
    flags = [f"--model={tmp_path / 'model'}", "--allow_out_of_protocol", "--show_identifiers", *["--flat"] * flat]
    main(["reconstruct", str(tmp_path / "in"), str(tmp_path / "out"), *flags])
    new = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path not in before}
    assert new == {"out"}
    assert not Path("/tmp/evil").exists()
    pages = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.html"))
    assert "<script" not in pages
    assert html.escape("<script>alert(1)</script>")[:20] in pages
    for name in ("series.csv", "failures.csv"):
        table = (tmp_path / "out" / name).read_text()
        assert not re.search(r"(^|,)\"?[=+@]", table, re.MULTILINE)
