"""Models in one file: what comes out is what went in, and anything else is refused before a file appears."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from stan_ct.cli.main import main
from stan_ct.errors import UsageError
from stan_ct.models import archive as module
from stan_ct.models.archive import MEMBERS, export_models, import_models
from stan_ct.models.checksums import SHIPPED, InvalidModel, ModelNotFound, sums_text
from stan_ct.models.folder import check_model, model_hash


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "models.zip"
    export_models(["default", "philips_b_l"], path)
    return path


def altered(packed, path, change):
    """A copy of the archive whose members, name -> bytes, a function has changed; its list of hashes is that of the copy."""
    with zipfile.ZipFile(packed) as opened:
        members = {name: opened.read(name) for name in opened.namelist() if name != "SHA256SUMS"}
    change(members)
    with zipfile.ZipFile(path, "w") as written:
        for name, content in (members | {"SHA256SUMS": sums_text(members).encode()}).items():
            written.writestr(name, content)
    return path


def test_models_come_back_with_their_exported_networks(packed, tmp_path):
    hashes = import_models(packed, tmp_path)
    assert hashes == {name: model_hash(SHIPPED / name) for name in ("default", "philips_b_l")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["default", "philips_b_l"]
    for name in hashes:
        assert check_model(tmp_path / name) == check_model(SHIPPED / name)
        for member in set(MEMBERS) - {"SHA256SUMS"}:
            assert (tmp_path / name / member).read_bytes() == (SHIPPED / name / member).read_bytes()
        found = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / name, capture_output=True, check=False)
        assert found.returncode == 0
    (tmp_path / "default" / "generator.npz").write_bytes(b"other")
    with pytest.raises(InvalidModel, match="is not what was written"):
        check_model(tmp_path / "default")


def test_the_same_models_give_the_same_bytes(packed, tmp_path):
    export_models(["default", "philips_b_l"], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside/config.json", "it holds '../outside/config.json'"),
        ("/etc/config.json", "it holds '/etc/config.json'"),
        ("default/code.py", "it holds 'default/code.py'"),
        ("default/deeper/config.json", "it holds"),
        ("default\\..\\config.json", "it holds"),
        ("..%2f/config.json", "it holds"),
        (".hidden/config.json", "it holds"),
    ],
)
def test_other_files_than_those_of_models_are_refused(packed, tmp_path, name, message):
    path = altered(packed, tmp_path / "bad.zip", lambda members: members.update({name: b"{}"}))
    with pytest.raises(InvalidModel, match="no archive of models") as error:
        import_models(path, tmp_path / "out")
    assert message in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_damage_is_refused_wherever_it_is(packed, tmp_path):
    """A bit, a file that is missing or listed only, a list that is missing, an archive cut short, and what is none."""
    content = bytearray(packed.read_bytes())
    place = content.find(b"PK\x03\x04", len(content) // 2) - 1000  # in the weights, which the archive's own CRC guards too
    content[place] ^= 1
    (tmp_path / "bit.zip").write_bytes(content)
    (tmp_path / "short.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.zip").write_bytes(b"text")
    with zipfile.ZipFile(packed) as opened, zipfile.ZipFile(tmp_path / "listed.zip", "w") as written:
        for name in opened.namelist()[1:]:
            written.writestr(name, opened.read(name))
    with zipfile.ZipFile(packed) as opened, zipfile.ZipFile(tmp_path / "swapped.zip", "w") as written:
        for name in opened.namelist():
            written.writestr(name, b"{}" if name == "default/config.json" else opened.read(name))
    altered(packed, tmp_path / "missing.zip", lambda members: members.pop("default/generator.npz"))
    for name in ("bit", "short", "none", "listed", "swapped", "missing"):
        with pytest.raises((InvalidModel, ModelNotFound)):
            import_models(tmp_path / f"{name}.zip", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_comes_twice_is_refused(packed, tmp_path):
    path = tmp_path / "twice.zip"
    path.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(path, "a") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr("default/config.json", b"{}")
    with pytest.raises(InvalidModel, match="it holds a file twice"):
        import_models(path, tmp_path / "out")


def test_size_is_bounded_whatever_the_archive_says(packed, tmp_path, monkeypatch):
    size = (SHIPPED / "default" / "generator.npz").stat().st_size
    monkeypatch.setattr(module, "PIECE", 10_000)
    monkeypatch.setattr(module, "LARGEST_FILE", size - 1)
    with pytest.raises(InvalidModel, match=r"default/generator\.npz is larger than"):
        import_models(packed, tmp_path / "out")
    monkeypatch.setattr(module, "LARGEST_FILE", size)
    import_models(packed, tmp_path / "out")


@pytest.mark.parametrize(
    "change", [lambda lines: [], lambda lines: lines[1:], lambda lines: [*lines, "0" * 64 + "  default/other"]]
)
def test_a_list_of_other_files_is_refused(packed, tmp_path, change):
    with zipfile.ZipFile(packed) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    members["SHA256SUMS"] = "\n".join(change(members["SHA256SUMS"].decode().splitlines())).encode()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    with pytest.raises(InvalidModel, match="its SHA256SUMS lists other files"):
        import_models(tmp_path / "other.zip", tmp_path / "out")


def test_what_exists_stays(packed, tmp_path):
    (tmp_path / "default").mkdir()
    with pytest.raises(UsageError, match="default exists already"):
        import_models(packed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["default"]
    with pytest.raises(UsageError, match="two models have the same name"):
        export_models(["default", str(SHIPPED / "default")], tmp_path / "twice.zip")


def test_command(tmp_path, capsys):
    assert main(["models", f"--export={tmp_path / 'm.zip'}", "--models=thin"]) == 0
    assert main(["models", f"--import={tmp_path / 'm.zip'}", f"--output_dir={tmp_path / 'in'}"]) == 0
    assert capsys.readouterr().out == 2 * f"thin  {model_hash(SHIPPED / 'thin')}\n"
    assert (tmp_path / "in/thin/config.json").is_file()
    for flags, message in (
        (["--import=a", "--export=b"], "exclude each other"),
        (["--import=a"], "needs --output_dir"),
        ([f"--import={tmp_path / 'none.zip'}", f"--output_dir={tmp_path / 'in'}"], "No such file"),
        ([f"--import={sys.executable}", f"--output_dir={tmp_path / 'in'}"], "is no archive of models"),
        (["--export=m.zip", "--models=nothing"], "holds no model"),
    ):
        assert main(["models", *flags]) == 1
        assert message in capsys.readouterr().err


def test_compressed_archives_of_models_are_refused(packed, tmp_path):
    """An archive unpacks to no more than it is long; names that are no text are refused too."""
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(packed) as opened, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name in opened.namelist():
            written.writestr(name, opened.read(name))
    with pytest.raises(InvalidModel, match="it is compressed"):
        import_models(path, tmp_path / "models")
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("ä/config.json", b"{}")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(InvalidModel, match="is no archive of models"):
        import_models(path, tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(("name", "fits"), [("site_a-1.0", True), ("site a", False), ("S\u00fcd", False), (".hidden", False)])
def test_what_is_packed_can_be_unpacked(tmp_path, name, fits):
    """A name that no archive may hold is refused while it can be changed, not where the archive was brought to."""
    shutil.copytree(SHIPPED / "philips_b_l", tmp_path / name)
    if fits:
        assert import_models(*packed_again(tmp_path, name)) == {name: model_hash(SHIPPED / "philips_b_l")}
    else:
        with pytest.raises(UsageError, match="rename its folder"):
            packed_again(tmp_path, name)
        assert not (tmp_path / "models.zip").exists()


def packed_again(root, name):
    """An archive of a model, and a folder for what is in it."""
    export_models([str(root / name)], root / "models.zip")
    return root / "models.zip", root / "unpacked"
