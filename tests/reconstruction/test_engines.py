"""A series is standardized without TensorFlow, and comes out as with it."""

import json
import subprocess
import sys

import numpy as np
import pydicom
from scipy import ndimage
from synthetic import write_ct

import stan_ct
from stan_ct.cli.main import main
from stan_ct.engines.engine import EXPORTED
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model

RUN = """
import sys
from stan_ct.cli.main import main
code = main(sys.argv[1:])
print(sorted({"tensorflow", "keras", "onnx", "onnxruntime", "openvino", "scipy"} & set(sys.modules)))
sys.exit(code)
"""


def test_engines_of_exported_models(tmp_path):
    """`auto` and each engine standardize without TensorFlow, Keras and SciPy; HU, features and findings are TensorFlow's.

    The manifest names the engine and its version, no other's, and no two engines give a series the same UID.
    """
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 300, (2, 256, 256)), (0, 1, 1))
    write_ct(tmp_path / "in", 1064 + noise.round().astype(int), kernel="BR40")
    flags = ["--model=default", "--allow_out_of_protocol", "--flat"]
    volumes, manifests = {}, {}
    for name in ("tensorflow", "auto", *EXPORTED):
        output = tmp_path / name
        arguments = ["reconstruct", str(tmp_path / "in"), str(output), f"--engine={name}", *flags]
        if name == "tensorflow":
            assert main(arguments) == 0
        else:
            command = [sys.executable, "-c", RUN, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert done.stdout.splitlines()[-1] == f"['{EXPORTED[0] if name == 'auto' else name}']"
        slices = [pydicom.dcmread(path) for path in sorted(output.rglob("*.dcm"))]
        volumes[name] = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
        manifests[name] = json.loads((output / "manifest.json").read_text())
    expected = volumes["tensorflow"]
    assert np.abs(np.sort(expected, None) - np.sort(noise + 40, None)).max() > 20  # it is standardized
    features = stan_ct.texture_features(expected)
    for name in EXPORTED:
        change = np.abs(volumes[name] - expected)
        assert change.max() <= 1
        assert np.median(change) == 0
        for feature, value in stan_ct.texture_features(volumes[name]).items():
            np.testing.assert_allclose(value, features[feature], rtol=0.005)
        series, of_tensorflow = (manifests[each]["series"][0] for each in (name, "tensorflow"))
        for key in ("patches", "kept_fraction", "findings"):
            assert series[key] == of_tensorflow[key]
    np.testing.assert_array_equal(volumes["auto"], volumes[EXPORTED[0]])
    for name, manifest in manifests.items():
        engine = EXPORTED[0] if name == "auto" else name
        (model,) = manifest["models"]
        assert (model["engine"], model["precision"]) == (engine, manifest["settings"]["precision"])
        named = {*EXPORTED, "tensorflow", "keras"} & set(manifest["versions"])
        assert named == ({"tensorflow", "keras"} if engine == "tensorflow" else {engine})
    uids = {name: manifest["series"][0]["derived_series_uid"] for name, manifest in manifests.items()}
    assert uids.pop("auto") == uids[EXPORTED[0]]
    assert len(set(uids.values())) == 3


def test_a_baseline_has_no_engine(tmp_path):
    """Whatever engine is asked for."""
    save_model(tmp_path, ModelConfig("h", "histogram", "SOFT", "SHARP", True, histogram=(0.0, 1.0)))
    assert stan_ct.load_model(tmp_path, engine="openvino").engine == ""
