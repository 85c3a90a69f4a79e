"""A model folder gives back the networks that were put into it, always the same bytes, and says what it lacks."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from stan_ct.ct.filters import FrontEnd, RadialFilter
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import (
    InvalidModel,
    ModelNotFound,
    check_model,
    find_model,
    load_judge,
    load_weights,
    model_hash,
    read_config,
    read_training_slices,
    save_model,
    shipped_models,
    write_judge,
)
from stan_ct.models.judge import Judge
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.patches.training_slices import TrainingSlices, uid_hash

FILTERS = FrontEnd(
    {"soft": RadialFilter((0.0, 1.0, 7.5), (1.0, 1.25, 0.1), (30.0, 20.5, 1.0)), "mid": RadialFilter((0.0, 5.0), (1.0, 1.5))}
)
CONFIG = ModelConfig(
    name="lung to soft",
    method="stan_ct",
    source_kernel="BL64",
    target_kernel="BR40",
    sharpens=False,
    hu_window=HUWindow(-1100.0, 2000.0),
    generator=GeneratorConfig(2, normalization="batch", residual=True, upsampling="transposed", full_resolution=False),
    discriminator=DiscriminatorConfig(base_filters=3, spectral=True),
    front_end=FILTERS,
    qc_threshold=0.25,
    training={"settings": {"seed": 7}, "data": {"pairs": [{"slices": 3}]}},
)


@pytest.fixture(scope="module")
def networks():
    """G and D of CONFIG, with every weight, moving averages too, away from where it starts."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    pair = CONFIG.build_generator(initialization="he"), CONFIG.build_discriminator()
    for network in pair:
        network.set_weights([w + rng.uniform(0.01, 0.05, w.shape) for w in network.get_weights()])
    return pair


@pytest.fixture
def folder(tmp_path, networks):
    """A saved model."""
    save_model(tmp_path / "models" / "lung", CONFIG, *networks)
    return tmp_path / "models" / "lung"


def reloaded(folder):
    config = read_config(folder)
    pair = config.build_generator(), config.build_discriminator()
    for label, network in zip(("generator", "discriminator"), pair, strict=True):
        load_weights(folder, label, network)
    return pair


def judged(networks):
    """What G makes of a patch, and D's logits for it."""
    x = np.random.default_rng(2).uniform(-1, 1, (1, 256, 256, 1)).astype(np.float32)
    output = networks[0](x)
    return np.asarray(output), np.asarray(networks[1](output)[1])


def test_save_and_load(folder, networks):
    """What is loaded computes bit for bit what was saved, from a configuration equal to the saved one."""
    assert read_config(folder) == CONFIG
    for before, after in zip(judged(networks), judged(reloaded(folder)), strict=True):
        np.testing.assert_array_equal(after, before)
        assert before.std() > 1e-3
    names = ["SHA256SUMS", "config.json", "discriminator.npz", "generator.npz"]
    assert sorted(p.name for p in folder.iterdir()) == names


def test_float16_storage(tmp_path, folder, networks):
    """float16 halves the files and moves the output by less than a thousandth of its range on average."""
    save_model(tmp_path / "half", CONFIG, *networks, storage="float16")
    values = sum(w.size for w in networks[0].get_weights())
    saved = (folder / "generator.npz").stat().st_size - (tmp_path / "half/generator.npz").stat().st_size
    assert saved == 2 * values
    for before, after in zip(judged(networks), judged(reloaded(tmp_path / "half")), strict=True):
        assert 0 < np.abs(after - before).mean() < 1e-3 * np.ptp(before)
        assert after.dtype == np.float32


def test_same_bytes(folder, tmp_path, networks, monkeypatch):
    """Saving the same networks again, years later, writes the same bytes, and the hash is the same."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e8)
    save_model(tmp_path / "again", CONFIG, *networks)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert model_hash(folder) == model_hash(tmp_path / "again")
    assert len(model_hash(folder)) == 64


@pytest.mark.parametrize("name", ["config.json", "generator.npz", "discriminator.npz", "judge.npz"])
def test_hash_covers_every_file(folder, name):
    """One byte more in any file of the model, or the file gone, is another hash; a log beside them is not."""
    (folder / "judge.npz").touch()
    before = model_hash(folder)
    (folder / "history.csv").write_text("step\n")
    assert model_hash(folder) == before
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"\n")
    longer = model_hash(folder)
    (folder / name).unlink()
    assert len({before, longer, model_hash(folder)}) == 3


def test_judge_goes_with_its_model(folder, networks):
    """A judge is saved beside the networks; a model saved over it without one does not keep the old judge."""
    source = np.random.default_rng(0).normal(0, 30, (40, 256, 256))
    judge = Judge.fit(source, [1.5 * source])
    save_model(folder, CONFIG, *networks, judge=judge)
    loaded = load_judge(folder)
    assert loaded is not None
    assert loaded.limit == judge.limit
    save_model(folder, CONFIG, *networks)
    assert load_judge(folder) is None
    assert not (folder / "judge.npz").exists()


def test_a_judge_in_another_folder_keeps_what_is_known_of_the_model(folder, tmp_path, networks):
    """Slices that a model was trained on go along, since evaluations leave them out; files of another model go."""
    source = np.random.default_rng(0).normal(0, 30, (40, 256, 256))
    judge, slices = Judge.fit(source, [1.5 * source]), replace(TrainingSlices(), train=frozenset({uid_hash("1.2.3")}))
    save_model(folder, CONFIG, networks[0], slices=slices)
    save_model(tmp_path / "judged", CONFIG, *networks)
    write_judge(folder, tmp_path / "judged", CONFIG, judge)
    assert read_training_slices(tmp_path / "judged") == read_training_slices(folder) == slices
    assert not (tmp_path / "judged" / "discriminator.npz").exists()
    check_model(tmp_path / "judged")


def test_hash_covers_names(folder):
    """The same bytes under another name are another model."""
    (folder / "discriminator.npz").unlink()
    before = model_hash(folder)
    (folder / "generator.npz").rename(folder / "discriminator.npz")
    assert model_hash(folder) != before


def test_kernel_filter_needs_no_networks(tmp_path):
    """A model of the front end alone is its configuration, filter curve and all."""
    config = replace(CONFIG, method="kernel_filter", qc_threshold=0.0)
    save_model(tmp_path, config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["SHA256SUMS", "config.json"]
    assert read_config(tmp_path) == config
    assert read_config(tmp_path).front_end == FILTERS


def test_config_without_front_end(tmp_path):
    """The paper's model has no front end, and comes back with none."""
    save_model(tmp_path, replace(CONFIG, front_end=None))
    assert read_config(tmp_path) == replace(CONFIG, front_end=None)


def test_config_is_readable(folder):
    """config.json is plain JSON with one line a key, in the order of the dataclass, the number of its format first."""
    text = (folder / "config.json").read_text()
    values = json.loads(text)
    assert [line.split('"')[1] for line in text.splitlines()[1:-1]] == list(values) == ["format", *vars(CONFIG)]
    assert values["hu_window"] == {"low": -1100.0, "high": 2000.0}


def test_discriminator_initialization():
    """`initialization` reaches both networks: He's kernels of D have variance 2 / fan-in, `normal` ones 0.02^2."""
    config = replace(CONFIG, discriminator=DiscriminatorConfig(base_filters=8))
    spread = {kind: config.build_discriminator(initialization=kind).get_weights()[8].std() for kind in ("normal", "he")}
    assert spread == pytest.approx({"normal": 0.02, "he": np.sqrt(2 / (16 * 64))}, rel=0.05)


def test_no_model(tmp_path):
    """A folder without a configuration is named, with what would have made one."""
    with pytest.raises(FileNotFoundError, match=r"holds no model: expected config\.json, as train\.py writes it") as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_incomplete_model(folder):
    """A missing weight file is named."""
    (folder / "discriminator.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"discriminator\.npz is missing: the model folder is incomplete"):
        reloaded(folder)


def test_weights_of_another_shape(folder):
    """Weights of another width are refused rather than cut or repeated."""
    with pytest.raises(ValueError, match="shape"):
        load_weights(
            folder, "generator", replace(CONFIG, generator=replace(CONFIG.generator, base_filters=3)).build_generator()
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "colour": "red"},
        lambda v: {k: w for k, w in v.items() if k != "hu_window"},
        lambda v: {k: w for k, w in v.items() if k != "name"},
        lambda v: {**v, "hu_window": {"low": -1024, "top": 1500}},
        lambda v: {**v, "front_end": {"frequency": 3, "gain": [1]}},
        lambda v: {**v, "generator": {**v["generator"], "depth": 9}},
        lambda v: {**v, "format": 3},
        lambda v: [v],
    ],
    ids=["unknown key", "no window", "no name", "unknown window", "scalar curve", "unknown switch", "later format", "a list"],
)
def test_config_of_another_version(folder, change):
    """A configuration with keys too many, too few or of another kind names its file and what is wrong."""
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=r"config\.json is not a model configuration of this version: ."):
        read_config(folder)


@pytest.mark.parametrize("content", ["", "{", "model: lung"])
def test_config_that_is_not_json(folder, content):
    """A truncated or foreign config.json is named as such."""
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is not a model configuration of this version"):
        read_config(folder)


def flat(config):
    """The values of a configuration as version 0.1 wrote them: no format, the networks' fields at the top level."""
    values = json.loads(config.to_json())
    del values["format"]
    generator, discriminator = values.pop("generator"), values.pop("discriminator")
    del generator["upsampling"], generator["full_resolution"], generator["adjacent_slices"]  # the paper's network was all
    values |= generator | {"discriminator_filters": discriminator.pop("base_filters")} | discriminator
    return values | {"window": values.pop("hu_window")}


def test_format_of_version_0_1(folder):
    """A flat configuration, as version 0.1 wrote it, is read as the nested one; what it lacks is named."""
    values = flat(CONFIG)
    assert (values["base_filters"], values["discriminator_filters"]) == (2, 3)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "SHA256SUMS").unlink()
    assert read_config(folder) == CONFIG
    del values["residual"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(InvalidModel, match=r"not a model configuration of this version: 'residual'"):
        read_config(folder)


HASHES = {
    "default": "311bb7e8d78ca1028a80e13872e603e8eee6d83762c2227850cf6b2486bfe289",
    "philips_b_l": "bd03253944ed4900d630f49b6fc79a67dcb5b0318f781b7b26efcbe34c5fd969",
    "thin": "b900022c758ec078a4775f2f1b6d3620d47317fb88b861f8da96ab51006f7fdf",
}
"""From these follow the UIDs of the series that a model writes: they change with the model, and not otherwise."""


def test_shipped_models():
    """The models that ship, with what `stan-ct models` shows of each; their files are the bytes they were."""
    default, philips, thin = shipped_models()
    assert (default.name, default.source_kernels, default.target_kernel) == ("default", ("BR40", "BL57"), "BL64")
    assert default.slice_thickness == (0.5, 3.0)
    assert (philips.name, philips.source_kernels, philips.target_kernel) == ("philips_b_l", ("B",), "L")
    assert philips.slice_thickness == (5.0, 5.0)
    assert (thin.name, thin.source_kernels, thin.target_kernel) == ("thin", ("BR40", "BL57"), "BL64")
    assert thin.slice_thickness == (0.5, 3.0)
    assert {model.name: model.hash for model in (default, philips, thin)} == HASHES


def test_find_model(tmp_path, monkeypatch):
    """A name is a folder if there is one of that name, else a model that ships; anything else is refused with their names."""
    monkeypatch.chdir(tmp_path)
    shipped = find_model("default")
    assert model_hash(shipped) == HASHES["default"]
    with pytest.raises(ModelNotFound, match=r"^bogus holds no model: expected config\.json.*\(default, philips_b_l, thin\)$"):
        find_model("bogus")
    (tmp_path / "default").mkdir()
    with pytest.raises(ModelNotFound, match=r"^default holds no model"):
        find_model("default")
    save_model("default", replace(CONFIG, method="kernel_filter"))
    assert find_model("default").resolve() == tmp_path / "default"


def test_configurations_are_read_without_keras():
    """Listing models, settings and flags load neither TensorFlow nor Keras."""
    code = (
        "import sys; import train; from stan_ct.models.folder import shipped_models; shipped_models();"
        "print({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "set()"
