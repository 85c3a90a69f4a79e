"""Inputs are only read: every command that reads trees of DICOM refuses to write among their files."""

import pytest
from commands import run
from synthetic import random_stored, write_ct

from stan_ct.dicom.apart import check_apart
from stan_ct.errors import UsageError


@pytest.fixture
def tree(tmp_path):
    """A tree with a series in a folder."""
    write_ct(tmp_path / "in" / "ct", random_stored((2, 8, 6)))
    return tmp_path / "in"


def test_outputs_lie_beside_an_input_or_in_a_folder_of_their_own(tree):
    """The input itself, whatever it is called, and its folders with slices are refused; all others are taken."""
    (tree.parent / "link").symlink_to(tree)
    (tree / "report").mkdir()
    (tree / "report" / "report.html").touch()
    for taken in (tree.parent, tree.parent / "out", tree / "out", tree / "report", tree.parent / "link" / "out"):
        check_apart(taken, [tree])
    for refused in (tree, tree / "ct", tree / "ct" / ".." / ".", tree.parent / "link", tree.parent / "link" / "ct"):
        with pytest.raises(UsageError, match="inputs are only read"):
            check_apart(refused, [tree.parent / "other", tree])


COMMANDS = {
    "adapt": ("adapt", "--source_dir={tree}", "--target_dir=x"),
    "evaluate": ("evaluate", "--source_dir=x", "--synthesized_dir=NAME={tree}"),
    "make-patches": ("make-patches", "--input_dir={tree}", "--source_kernels=A", "--target_kernel=B"),
    "simulate": ("simulate", "--input_dir={tree}", "--input_kernel=BL64", "--kernels=BR40"),
    "sites": ("sites", "--site=A=x", "--site=B={tree}"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("folder", [".", "ct"])
def test_commands(tree, words, folder):
    """Nothing is written."""
    before = sorted(tree.rglob("*"))
    found = run(*(word.format(tree=tree) for word in words), f"--output_dir={tree / folder}")
    assert (found.returncode, found.stderr.count("inputs are only read")) == (1, 1)
    assert sorted(tree.rglob("*")) == before
