"""Exported networks compute what TensorFlow computes, or are not exported."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from stan_ct.engines import export as exporting
from stan_ct.engines.engine import EXPORTED, choose_engine, load_engine
from stan_ct.engines.export import DifferentOutput, export_model
from stan_ct.engines.exported import not_exported
from stan_ct.engines.graph import networks_graph
from stan_ct.errors import UsageError
from stan_ct.models.checksums import EXPORT, GRAPH, RECORD, SHIPPED, InvalidModel
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import load_judge, model_hash, read_config, save_model, shipped_names
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig

CONFIG = ModelConfig(
    "m", "stan_ct", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=1), discriminator=DiscriminatorConfig(1)
)
PAPER = {"residual": False, "full_resolution": False}


def save(folder, config, **options):
    """A model whose weights are all random, the zeros of a residual output too."""
    rng = np.random.default_rng(0)
    networks = config.build_generator(), config.build_discriminator() if config.method == "stan_ct" else None
    for network in networks:
        for weight in network.weights if network else ():
            values = rng.normal(0, 1 / np.sqrt(max(np.prod(weight.shape[:-1]), 4)), weight.shape)
            weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    save_model(folder, config, *networks, **options)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of one filter, which tests copy."""
    return save(tmp_path_factory.mktemp("saved") / "model", CONFIG)


@pytest.fixture(scope="module")
def exported_once(saved, tmp_path_factory):
    """The same, exported."""
    copied = shutil.copytree(saved, tmp_path_factory.mktemp("exported") / "model")
    export_model(copied)
    return copied


@pytest.fixture
def folder(saved, tmp_path):
    """A model of one filter, not exported."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def exported(exported_once, tmp_path):
    """A model of one filter, exported."""
    return shutil.copytree(exported_once, tmp_path / "exported")


@pytest.mark.parametrize(
    ("generator", "discriminator"),
    [
        (GeneratorConfig(1, upsampling="resize"), DiscriminatorConfig(1)),
        (GeneratorConfig(8, "batch", upsampling="transposed", **PAPER), DiscriminatorConfig(1, spectral=True)),
        (GeneratorConfig(8, "group", upsampling="pixel_shuffle", adjacent_slices=1), DiscriminatorConfig(1, conditional=True)),
        (GeneratorConfig(1, upsampling="resize", **PAPER), DiscriminatorConfig(2, high_pass=True)),
    ],
)
def test_engines_compute_what_tensorflow_computes(tmp_path, generator, discriminator):
    """Every architecture, within rounding, whatever the patches; and the outputs are no constants."""
    config = replace(CONFIG, generator=generator, discriminator=discriminator)
    save(tmp_path, config, storage="float16")
    export = export_model(tmp_path)
    assert export.largest_difference < 0.01
    assert not not_exported(tmp_path, model_hash(tmp_path))
    gray = np.random.default_rng(1).uniform(-1, 1, (3, 256, 512, generator.channels)).astype(np.float32)
    expected, rightly = load_engine("tensorflow", tmp_path, "float32", judged=True)(gray)
    assert expected.std() > 0.05
    assert np.ptp(rightly) > 0
    for name in EXPORTED:
        made, judged = load_engine(name, tmp_path, "float32", judged=True, shared=True)(gray)
        assert made.dtype == judged.dtype == np.float32
        np.testing.assert_allclose(made, expected, atol=5e-6)
        np.testing.assert_allclose(judged, rightly, atol=1e-5)


def test_a_model_without_a_discriminator(tmp_path):
    """P(real) is 1."""
    save(tmp_path, replace(CONFIG, method="unet"))
    export_model(tmp_path)
    for name in EXPORTED:
        made, judged = load_engine(name, tmp_path, "float32", False)(np.zeros((2, 256, 256, 1), np.float32))
        assert made.shape == (2, 256, 256, 1)
        assert judged.tolist() == [1, 1]


def test_other_output_is_not_exported(folder, monkeypatch):
    """A graph with another slope of its activations is refused, and nothing is left; what is as good as equal passes."""
    for leak, refused in ((0.21, True), (0.2 + 1e-6, False)):
        monkeypatch.setattr("stan_ct.engines.graph.LEAK", leak)
        if refused:
            with pytest.raises(
                DifferentOutput, match=r"onnxruntime \S+ differs from TensorFlow by .* HU and .* nothing was exported"
            ):
                export_model(folder)
            assert not [path for path in folder.iterdir() if path.name.startswith("networks")]
        else:
            assert export_model(folder).largest_difference < exporting.LARGEST_DIFFERENCE


def test_a_graph_with_its_weights(folder, tmp_path):
    """In a folder of its own it needs no other file; the model folder stays as it was."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    export_model(folder, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    graph = onnx.load(tmp_path / "out" / GRAPH, load_external_data=False)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)
    assert (tmp_path / "out" / GRAPH).stat().st_size > (folder / "generator.npz").stat().st_size / 2


def test_what_cannot_be_exported(tmp_path, folder, monkeypatch):
    """A baseline, which has no networks; a model without an engine to compare; weights of a type that graphs do not have."""
    save_model(tmp_path / "baseline", ModelConfig("h", "histogram", "SOFT", "SHARP", True, histogram=(0.0, 1.0)))
    with pytest.raises(UsageError, match="is a histogram model: it has no networks"):
        export_model(tmp_path / "baseline")
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match="neither onnxruntime nor openvino is installed"):
            export_model(folder)
    (folder / "SHA256SUMS").unlink()
    arrays = dict(np.load(folder / "generator.npz"))
    np.savez(folder / "generator.npz", **{name: values.astype(np.float64) for name, values in arrays.items()})
    with pytest.raises(InvalidModel, match=r"generator\.npz: array 000\.npy is <f8, expected float16 or float32"):
        export_model(folder)


def test_exports_of_another_state_of_the_model(exported):
    """A model that changed, a damaged graph and a damaged record are no exports; saving a model removes those of the former."""
    folder, model = exported, model_hash(exported)
    assert not_exported(folder, model) == ""
    assert "another state of the model" in not_exported(folder, "0" * 64)
    for name, reason in ((GRAPH, "is not what was exported"), (RECORD, "is damaged")):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + b"?")
        assert reason in not_exported(folder, model)
        (folder / name).unlink()
        assert f"has no {GRAPH} with its {RECORD}" in not_exported(folder, model)
        (folder / name).write_bytes(content)
    save(folder, CONFIG)
    assert not any((folder / name).exists() for name in EXPORT)


def test_a_graph_from_elsewhere_is_not_run(exported, monkeypatch):
    """A graph with a record that fits that names another file or another operator than ours is no export."""
    folder, model, ours = exported, model_hash(exported), (exported / GRAPH).read_bytes()
    for change in ("file", "operator"):
        graph = onnx.load_model_from_string(ours)
        if change == "file":
            tensor = next(t for t in graph.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
            next(entry for entry in tensor.external_data if entry.key == "location").value = "../../etc/passwd"
        else:
            graph.graph.node.append(onnx.helper.make_node("Loop", [], [], name="endless"))
        content = graph.SerializeToString()
        (folder / GRAPH).write_bytes(content)
        record = json.loads((folder / RECORD).read_text()) | {"graph": hashlib.sha256(content).hexdigest()}
        (folder / RECORD).write_text(json.dumps(record))
        assert "is not what this version exports" in not_exported(folder, model)
        assert choose_engine("auto", "float32", folder, model)[0] == "tensorflow"
    monkeypatch.setattr("stan_ct.engines.exported.find_spec", lambda name: None)
    assert "onnx is not installed" in not_exported(folder, model)


def test_a_graph_that_no_engine_can_load(exported):
    """A graph whose weights are missing is named, with what to do."""
    (exported / "generator.npz").unlink()
    for name, called in zip(EXPORTED, ("ONNX Runtime", "OpenVINO"), strict=True):
        with pytest.raises(InvalidModel, match=f"{called} cannot load .*{GRAPH}.*Export the model again"):
            load_engine(name, exported, "float32", True)


def test_the_models_that_ship_are_exported():
    """Their graphs are those that export writes today, of the files that ship."""
    for name in shipped_names():
        folder = SHIPPED / name
        assert not_exported(folder, model_hash(folder)) == ""
        judged = load_judge(folder) is None
        assert onnx.load(folder / GRAPH, load_external_data=False) == networks_graph(folder, read_config(folder), judged)
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 30e6


def test_choice(folder, exported, monkeypatch):
    """`auto` takes the first engine that is installed, where the model is exported, without GPU and in float32."""
    installed = {"onnxruntime", "openvino"}
    monkeypatch.setattr("stan_ct.engines.engine.find_spec", lambda name: name in installed or None)
    monkeypatch.setattr("stan_ct.networks.precision._fast_type", lambda: "bfloat16")

    def choose(wanted="auto", precision="auto"):
        return choose_engine(wanted, precision, folder, model_hash(folder))

    assert choose() == choose("tensorflow") == ("tensorflow", "bfloat16")
    assert choose("tensorflow", "float32") == ("tensorflow", "float32")
    for name in EXPORTED:
        with pytest.raises(
            UsageError, match=f"engine {name} needs an exported model, and .* has no {GRAPH} .*: stan-ct export "
        ):
            choose(name)
    folder = exported
    assert choose() == choose("auto", "float32") == choose("onnxruntime") == ("onnxruntime", "float32")
    assert choose("openvino") == ("openvino", "float32")
    assert choose("auto", "bfloat16") == ("tensorflow", "bfloat16")
    with pytest.raises(UsageError, match="engine openvino computes in float32, not in bfloat16"):
        choose("openvino", "bfloat16")
    with pytest.raises(UsageError, match="engine must be auto, tensorflow, onnxruntime or openvino, not 'torch'"):
        choose("torch")
    with monkeypatch.context() as patched:
        patched.setattr("stan_ct.engines.engine.may_have_gpu", lambda: True)
        assert choose()[0] == "tensorflow"
    installed.remove("onnxruntime")
    assert choose() == ("openvino", "float32")
    with pytest.raises(UsageError, match=r"engine onnxruntime is not installed: pip install 'stan-ct\[onnx\]'"):
        choose("onnxruntime")
    installed.clear()
    assert choose() == ("tensorflow", "bfloat16")
