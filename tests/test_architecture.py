"""Imports point one way, TensorFlow stays where it belongs, and modules stay readable."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    ("errors",),
    ("cluster",),
    ("arrays", "files", "parallel", "quiet", "options", "allocation", "volume_file"),
    ("ct", "report"),
    ("dicom", "features"),
    ("patches", "simulation", "networks"),
    ("models",),
    ("engines",),
    ("training", "baselines"),
    ("adaptation",),
    ("reconstruction",),
    ("evaluation", "node"),
    ("cli", "__init__"),
    ("__main__",),
)
"""A package may import itself and the stages before its own; packages of one stage do not import each other."""

STAGE = {package: number for number, stage in enumerate(STAGES) for package in stage}
TENSORFLOW = {"patches/dataset.py", "networks/precision.py", "engines/tensorflow.py"}
"""Where TensorFlow may be imported, besides `training`."""

MODULES = {path.relative_to(ROOT / "stan_ct").as_posix(): path.read_text() for path in (ROOT / "stan_ct").rglob("*.py")}
TREES = {module: ast.parse(text) for module, text in MODULES.items()}


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported, at module level or inside functions; relative ones start with a dot."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def test_imports_point_one_way():
    """ct -> dicom -> patches, simulation, networks -> models -> training -> reconstruction -> evaluation -> cli, not back."""
    wrong = []
    for module, tree in TREES.items():
        package = module.split("/")[0].removesuffix(".py")
        for name in imports(tree):
            other = name.removeprefix("stan_ct.").split(".")[0] if name.startswith("stan_ct.") else package
            earlier = STAGE.get(other, -1) < STAGE.get(package, -1) or other == "__version__"
            if name.startswith(".") or not (other == package or earlier):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_every_package_has_a_stage():
    """No package of stan_ct escapes the rule above."""
    assert {module.split("/")[0] for module in MODULES if "/" in module} <= set(STAGE)


def test_only_training_dataset_engine_and_precision_import_tensorflow():
    """Reading CT, sampling, fusion, the networks, quality control and evaluation know nothing of TensorFlow."""
    users = {module for module, tree in TREES.items() if any(name.split(".")[0] == "tensorflow" for name in imports(tree))}
    assert {module for module in users if not module.startswith("training/")} <= TENSORFLOW
    assert "engines/tensorflow.py" in users  # the rule finds what it looks for


def test_no_assert_in_the_product():
    """A check must survive `python -O`: the product raises, it does not assert."""
    assert [m for m, tree in TREES.items() if any(isinstance(node, ast.Assert) for node in ast.walk(tree))] == []


def test_a_module_is_a_sitting():
    """No module is longer than 300 lines."""
    assert {m: lines for m, text in MODULES.items() if (lines := len(text.splitlines())) > 300} == {}


def test_test_modules_have_names_of_their_own():
    """Two test modules of one name, in whatever folders, cannot be collected together."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
