"""Model folders as data: whatever is damaged, forged or of a later version is refused by name, and nothing is executed."""

import hashlib
import json
import pickle
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import stan_ct
from stan_ct.ct.filters import HIGHEST_FLOOR, FrontEnd, RadialFilter
from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.ct.noise import BANDS
from stan_ct.models import checksums
from stan_ct.models.config import FORMAT, ModelConfig
from stan_ct.models.folder import (
    InvalidModel,
    ModelNotFound,
    check_model,
    find_model,
    load_judge,
    model_hash,
    read_config,
    read_training_slices,
    save_model,
)
from stan_ct.models.judge import Judge
from stan_ct.models.plausible import MAX_FILTERS, MAX_GAIN, MAX_HU, MAX_NAME, MAX_THICKNESS
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.networks.shapes import discriminator_shapes, generator_shapes
from stan_ct.patches.training_slices import TrainingSlices, uid_hash

FINGERPRINT = Fingerprint("SOFT", (1.0, 3.0), (0.5, 0.9), (0.1,) * len(BANDS), (-0.5, 0.5), 0.05)
CONFIG = ModelConfig(
    name="small",
    method="stan_ct",
    source_kernel="SOFT",
    target_kernel="SHARP",
    sharpens=True,
    generator=GeneratorConfig(1),
    discriminator=DiscriminatorConfig(1),
    front_end=FrontEnd({"SOFT": RadialFilter((0.0, 3.0, 7.0), (1.0, 2.0, 1.5), (9.0, 5.0, 1.0))}),
    sources=(FINGERPRINT,),
    standard=replace(FINGERPRINT, kernel="SHARP"),
)


class Network:
    """Stands for a network: its weights alone."""

    def __init__(self, shapes):
        rng = np.random.default_rng(0)
        self.weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def get_weights(self):
        return self.weights


@pytest.fixture
def folder(tmp_path):
    """A model of one filter, with the hashes of its files."""
    networks = Network(generator_shapes(CONFIG.generator)), Network(discriminator_shapes(CONFIG.discriminator))
    save_model(tmp_path / "model", CONFIG, *networks)
    return tmp_path / "model"


@pytest.fixture
def bare(folder):
    """The same without hashes, as models of earlier versions have none."""
    (folder / "SHA256SUMS").unlink()
    return folder


def refused(folder, words, error=InvalidModel):
    """What is said on loading the model, on one line, the same through the library."""
    with pytest.raises(error, match=words) as caught:
        check_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 700
    with pytest.raises(stan_ct.StanCTError) as other:
        stan_ct.load_model(folder)
    assert str(other.value) == message


def test_whole(folder):
    """A folder as it was written passes, with its hashes and without them, moved or not."""
    assert check_model(folder) == CONFIG
    shutil.copytree(folder, folder.with_name("moved"))
    assert check_model(folder.with_name("moved")) == CONFIG
    (folder / "SHA256SUMS").unlink()
    assert check_model(folder) == CONFIG


def test_the_hashes_are_those_of_sha256sum(folder):
    """The common tool checks a folder, and its output is read."""
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    text = subprocess.check_output(["sha256sum", "config.json", "discriminator.npz", "generator.npz"], cwd=folder, text=True)
    assert text == (folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize("name", ["config.json", "generator.npz", "discriminator.npz"])
def test_flipped_bits(folder, name):
    """One bit anywhere in a file is refused: by its hash, or before that by what it made of the file."""
    path = folder / name
    data = path.read_bytes()
    for position in np.linspace(0, len(data) - 1, 40).astype(int):
        path.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        with pytest.raises(InvalidModel):
            check_model(folder)
    path.write_bytes(data)
    assert check_model(folder) == CONFIG


@pytest.mark.parametrize("name", ["config.json", "generator.npz", "discriminator.npz"])
@pytest.mark.parametrize("kept", [0, 100, -1])
def test_truncated_without_hashes(bare, name, kept):
    """Empty files, and ones that end early, are refused where no hash is known."""
    path = bare / name
    path.write_bytes(path.read_bytes().rstrip()[:kept])
    refused(bare, "not a model configuration" if name == "config.json" else "is not a whole archive of numbers")


@pytest.mark.parametrize("name", ["config.json", "generator.npz", "discriminator.npz"])
def test_missing(folder, name):
    """A missing file is named, whether its hash is known or not."""
    (folder / name).unlink()
    with pytest.raises(ModelNotFound, match=name):
        check_model(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ModelNotFound, match=name):
        check_model(folder)


def test_a_judge_from_elsewhere(folder):
    """A file of a model whose hash is not known is not part of it."""
    np.savez(
        folder / "judge.npz",
        **Judge.fit(np.random.default_rng(0).normal(0, 9, (40, 256, 256)), [np.zeros((40, 256, 256))]).arrays(),
    )
    refused(folder, r"judge\.npz is no file of this model: its hash is not known.*remove its SHA256SUMS")
    (folder / "SHA256SUMS").unlink()
    assert check_model(folder) == CONFIG
    np.savez(folder / "judge.npz", version=3.0, mean_gain=np.zeros(3))
    refused(folder, r"judge\.npz holds no judge of this version: expected array expected of shape \(6, 14\), got none")
    with pytest.raises(InvalidModel, match="holds no judge"):
        load_judge(folder)


def test_a_discriminator_that_does_not_judge_is_compared_too(folder):
    """Beside a judge it computes nothing, but belongs to what the hash of the model names."""
    judge = Judge.fit(np.random.default_rng(0).normal(0, 9, (40, 256, 256)), [np.zeros((40, 256, 256))])
    np.savez(folder / "judge.npz", **judge.arrays())
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256((folder / 'judge.npz').read_bytes()).hexdigest()}  judge.npz\n")
    assert check_model(folder) == CONFIG
    (folder / "discriminator.npz").write_bytes((folder / "discriminator.npz").read_bytes() + b"x")
    with pytest.raises(InvalidModel, match=r"discriminator\.npz is not what was written"):
        check_model(folder)


@pytest.mark.parametrize("text", ["", "abc\n", "0" * 64 + " config.json\n", "\x00\xff"])
def test_hashes_that_are_none(folder, text):
    """A damaged list of hashes counts as damage, not as no list."""
    (folder / "SHA256SUMS").write_text(text, encoding="latin-1")
    refused(folder, "does not list a SHA-256 and a file on each line")


def rewrite(path, change):
    """Changes the arrays of a file."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(path, **change(arrays))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bare, value):
    """One weight is enough."""
    rewrite(bare / "generator.npz", lambda a: a | {"003": np.full_like(a["003"], value)})
    refused(bare, r"generator\.npz holds values in array 003 that are not finite")


def without(arrays, name):
    return {key: values for key, values in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a | {"000": a["000"][:3]}, r"array 0 has shape \(3, 4, 1, 1\), expected \(4, 4, 1, 1\)"),
        (lambda a: without(a, "035"), "35 arrays, expected 36"),
        (lambda a: a | {"036": np.zeros(1)}, "37 arrays, expected 36"),
        (lambda a: {}, "0 arrays, expected 36"),
        (lambda a: a | {"001": np.array(["a"])}, "expected numbers"),
        (lambda a: a | {"001": np.array([1j])}, "expected numbers"),
    ],
    ids=["shape", "fewer", "more", "none", "text", "complex"],
)
def test_weights_that_do_not_fit(bare, change, words):
    """Arrays of another network, or of anything but numbers, are refused before a network is built."""
    rewrite(bare / "generator.npz", change)
    refused(bare, words)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("name", ["generator.npz", "discriminator.npz", "judge.npz", "config.json"])
def test_nothing_in_a_model_is_executed(bare, tmp_path, name):
    """Pickles, alone or in an archive, are refused; what they would have done is not done."""
    trace = tmp_path / "executed"
    np.savez(tmp_path / "bomb.npz", **{"000": np.array([Bomb(trace)], object)})
    for content in (pickle.dumps(Bomb(trace)), (tmp_path / "bomb.npz").read_bytes()):
        (bare / name).write_bytes(content)
        with pytest.raises(InvalidModel):
            check_model(bare)
        with pytest.raises(InvalidModel):
            stan_ct.load_model(bare)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["config.json", "generator.npz"])
def test_files_that_are_too_long_are_not_read(bare, monkeypatch, name):
    """A file of as many bytes as are allowed is read; with one allowed less, it is refused by its length."""
    arrays, length = name.endswith("npz"), (bare / name).stat().st_size
    limit = "stan_ct.models.folder.LARGEST_FILE" if arrays else "stan_ct.models.checksums.LARGEST_TEXT"
    monkeypatch.setattr(limit, length)
    assert check_model(bare) == CONFIG
    monkeypatch.setattr(limit, length - 1)
    refused(bare, "more than the" if arrays else "bytes, which no file of a model has")


def edited(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


@pytest.mark.parametrize("number", [FORMAT + 1, 0, -1, 1.5, "2", True, None, [], 10**40])
def test_formats_of_other_versions(bare, number):
    """A later format, and what is no format, is refused with what to do."""
    edited(bare, format=number)
    refused(bare, rf"format .*, this version reads formats 1 to {FORMAT}: install a later STAN-CT")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": 5}, "the model.name is 5, expected str"),
        ({"name": "a\x1b[2Jb"}, "name must be 1 to 200 printable characters"),
        ({"name": ""}, "name must be 1 to 200 printable characters"),
        ({"method": ["stan_ct"]}, "the model.method is .*, expected one of stan_ct, unet, kernel_filter, histogram"),
        ({"sharpens": "no"}, "the model.sharpens is 'no', expected bool"),
        ({"sharpens": 1}, "the model.sharpens is 1, expected bool"),
        ({"qc_threshold": True}, "the model.qc_threshold is True, expected float"),
        ({"qc_threshold": "0.9"}, "the model.qc_threshold is '0.9', expected float"),
        ({"qc_threshold": float("nan")}, "the model.qc_threshold is nan, expected a finite number"),
        ({"qc_threshold": 1.5}, "qc_threshold must be between 0 and 1, not 1.5"),
        ({"hu_window": {"low": -1024, "high": float("inf")}}, "the model.hu_window.high is inf"),
        ({"hu_window": {"low": -1024, "high": 100}}, "must cover the soft-tissue range"),
        ({"hu_window": [-1024, 1500]}, "expected an object|hu_window"),
        ({"generator": {"base_filters": "1"}}, "generator"),
        ({"front_end": {"SOFT": {"frequency": [0, 1], "gain": [1]}}}, "must have a gain, and a ceiling or none, at each"),
        ({"front_end": {"SOFT": {"frequency": [0, 1, 1], "gain": [1, 1, 1]}}}, "must have frequencies that grow from 0"),
        (
            {"front_end": {"SOFT": {"frequency": [0, 1], "gain": [1, None]}}},
            "front_end.filters.SOFT.gain is None, expected float",
        ),
        (
            {"front_end": {"SOFT": {"frequency": [0, 1], "gain": [1, 1], "floor": "air"}}},
            "front_end.filters.SOFT.floor is 'air', expected float",
        ),
        ({"front_end": 3}, "front_end.filters is 3, expected an object"),
        ({"sources": 5}, "the model.sources is 5, expected a list"),
        ({"sources": [{"kernel": "SOFT"}]}, "the model.sources lacks 'slice_thickness', 'pixel_spacing', 'spectrum'"),
        ({"standard": {**vars(FINGERPRINT), "spectrum": [1.0]}}, "must have 8 values in its spectrum, not 1"),
        ({"standard": {**vars(FINGERPRINT), "pixel_spacing": [2, 1]}}, "a smallest and a largest pixel_spacing, not 2 and 1"),
        ({"standard": {**vars(FINGERPRINT), "level": [1, 2, 3]}}, "level has 3 values, expected 2"),
        ({"histogram": ["a"]}, "the model.histogram is 'a', expected float"),
        ({"histogram": [1.0, 0.0]}, "the quantiles of histogram must not fall"),
        ({"target_thickness": -1}, "target_thickness must be between 0 and 100 mm, not -1"),
        ({"training": []}, r"the model.training is \[\], expected an object"),
        ({"method": "histogram"}, "a histogram model must have the quantiles of its target"),
        ({"method": "kernel_filter", "front_end": {}}, "a kernel_filter model must have a front_end"),
    ],
)
def test_values_that_no_model_has(bare, changes, words):
    """A value of another type, not finite, or out of its range is named, with what was expected."""
    edited(bare, **changes)
    refused(bare, words)


def test_configurations_that_are_not_whole(bare):
    """Nested without end, not UTF-8, a list, or nothing: refused like any other damage."""
    for content in (b"[" * 100_000, b'{"name": "\xff"}', b"[]", b"null", b"\x00" * 50):
        (bare / "config.json").write_bytes(content)
        refused(bare, "is not a model configuration of this version|config.json: ")


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"generator": GeneratorConfig(MAX_FILTERS)}, {"generator": GeneratorConfig(MAX_FILTERS + 1)}),
        (
            {"discriminator": DiscriminatorConfig(MAX_FILTERS)},
            {"discriminator": DiscriminatorConfig(MAX_FILTERS + 1)},
        ),
        ({"name": "n" * MAX_NAME}, {"name": "n" * (MAX_NAME + 1)}),
        *(
            ({"front_end": one}, {"front_end": other})
            for one, other in [
                [FrontEnd({"S": RadialFilter((0.0, 1.0), (1.0, sign * gain))}) for gain in (MAX_GAIN, MAX_GAIN + 0.1)]
                for sign in (1, -1)
            ]
        ),
        *(
            ({"front_end": one}, {"front_end": other})
            for one, other in [
                [FrontEnd({"S": RadialFilter((0.0, 1.0), (1.0, 1.0), floor=floor + more)}) for more in (0.0, sign * 0.5)]
                for floor, sign in ((HIGHEST_FLOOR, 1), (-MAX_HU, -1))
            ]
        ),
        ({"hu_window": replace(CONFIG.hu_window, high=MAX_HU)}, {"hu_window": replace(CONFIG.hu_window, high=MAX_HU + 1)}),
        ({"target_thickness": MAX_THICKNESS}, {"target_thickness": MAX_THICKNESS + 0.1}),
        ({"qc_threshold": 1.0}, {"qc_threshold": 1.001}),
        ({"qc_threshold": 0.0}, {"qc_threshold": -0.001}),
    ],
)
def test_limits(tmp_path, inside, outside):
    """Each limit holds up to its end, and not beyond."""
    save_model(tmp_path / "inside", replace(CONFIG, **inside))
    assert read_config(tmp_path / "inside") == replace(CONFIG, **inside)
    save_model(tmp_path / "outside", replace(CONFIG, **outside))
    with pytest.raises(InvalidModel, match="must"):
        read_config(tmp_path / "outside")


def test_models_that_ship_are_those_that_were_made():
    """The hashes known of the models that ship are those of their files: a new model needs new ones."""
    present = {
        folder.name: {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in (*checksums.FILES, checksums.SLICES)
            if (folder / name).exists()
        }
        for folder in sorted(checksums.SHIPPED.iterdir())
        if (folder / "config.json").exists()
    }
    assert present == checksums.SHIPPED_SUMS
    for name in present:
        check_model(find_model(name))


@pytest.mark.parametrize("name", ["config.json", "generator.npz"])
def test_a_shipped_model_with_other_bytes(tmp_path, monkeypatch, name):
    """A model that ships is refused when a byte of it differs, though it could be loaded, and the advice is to install anew."""
    shutil.copytree(checksums.SHIPPED / "philips_b_l", tmp_path / "philips_b_l")
    monkeypatch.setattr(checksums, "SHIPPED", tmp_path.resolve())
    folder = tmp_path / "philips_b_l"
    check_model(folder)
    if name == "config.json":
        edited(folder, qc_threshold=0.5)
    else:
        rewrite(folder / name, lambda a: a | {"000": a["000"] * 1.5})
    refused(folder, rf"{name} is not what was written, its SHA-256 begins .*Install STAN-CT again$")


SLICES = TrainingSlices(frozenset(["0123456789ab"]), frozenset(), frozenset(["ba9876543210"]))


@pytest.fixture
def trained(tmp_path):
    """A classical model that knows its training slices."""
    save_model(tmp_path / "trained", replace(CONFIG, method="histogram", histogram=(-9.0, 9.0)), slices=SLICES)
    return tmp_path / "trained"


def test_training_slices_there_and_back(trained):
    """They are read as they were written, and a model that does not know them replaces them; the model's hash stays."""
    assert read_training_slices(trained) == SLICES
    assert check_model(trained).method == "histogram"
    known = model_hash(trained)
    save_model(trained, read_config(trained))
    assert not (trained / "training_slices.txt").exists()
    assert read_training_slices(trained) == TrainingSlices()
    assert model_hash(trained) == known


def test_damaged_training_slices(trained):
    """Changed, missing, or no hashes: refused by name."""
    path = trained / "training_slices.txt"
    text = path.read_text()
    path.write_text(text.replace("0", "1", 1))
    refused(trained, r"training_slices\.txt is not what was written")
    path.unlink()
    refused(trained, r"training_slices\.txt is missing", ModelNotFound)
    (trained / "SHA256SUMS").unlink()
    path.write_bytes(b"train 0123\xff\n")
    refused(trained, r"training_slices\.txt: line 1 is .*, expected one of train, validation, study, series, and 12 digits")


def test_models_of_earlier_versions_know_their_series(tmp_path):
    """From the provenance of the records in their configuration, whatever it holds."""
    pairs = [{"split": "train", "source": {"series_uid": "1.1"}, "target": {"series_uid": "1.2"}}]
    config = replace(CONFIG, method="histogram", histogram=(-9.0, 9.0))
    save_model(tmp_path, replace(config, training={"data": {"pairs": pairs}}))
    assert read_training_slices(tmp_path) == TrainingSlices(series=frozenset([uid_hash("1.1"), uid_hash("1.2")]))
    for nothing in ({}, {"data": 3}, {"data": {"pairs": 3}}):
        save_model(tmp_path, replace(config, training=nothing))
        assert read_training_slices(tmp_path) == TrainingSlices()


def test_models_that_ship_know_their_slices():
    """As many as their provenance says, of source and target: 25 patients train `default`, 12 slices `philips_b_l`."""
    counts = {name: read_training_slices(find_model(name)) for name in ("default", "philips_b_l", "thin")}
    assert [len(counts["default"].train), len(counts["default"].validation), len(counts["default"].study)] == [1500, 300, 30]
    philips = counts["philips_b_l"]
    assert [len(philips.train), len(philips.validation), len(philips.study)] == [24, 12, 1]
    thin = counts["thin"]
    assert [len(thin.train), len(thin.validation), len(thin.study)] == [1440, 432, 13]
