"""From DICOM to a model folder: what is trained, logged, calibrated, saved, and taken up again."""

import csv
import json
import os
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from synthetic import STUDY_UID, write_ct

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.losses import LossSettings
from stan_ct.networks.model_folder import load_weights, read_config
from stan_ct.patches.plan import PatchSettings
from stan_ct.patches.records import make_patches
from stan_ct.training.trainer import TrainSettings, _phase, train

ROOT = Path(__file__).parents[2]
WON_AFTER = 20
SHARPENER = {"name": "sharpener", "initialization": "he", "normalization": "batch"}
LOSSES = LossSettings(adversarial_weight=0.5, feature_weight=0.25, latent_weight=2.0, l1_weight=3.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of a smooth volume and its sharpened twin: 8 training and 4 validation patches, with a front end."""
    folder = tmp_path_factory.mktemp("training")
    noise = np.random.default_rng(0).normal(0, 400, (6, 264, 264))
    soft = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    sharp = soft + 1.5 * (soft - ndimage.gaussian_filter(soft, (0, 2, 2)))
    for number, kernel, hu in ((1, "SOFT", soft), (2, "SHARP", sharp)):
        write_ct(folder / f"ct/{number}", np.rint(hu).astype(int) + 1024, kernel=kernel, series=number)
    settings = {"split": "blocks", "block": 1, "patches_per_slice": 2, "margin": 4, "front_end": "amplitude"}
    index = make_patches(PatchSettings((str(folder / "ct"),), str(folder / "records"), ("SOFT",), "SHARP", **settings))
    assert index["patches"] == {"train": 8, "validation": 4}
    return folder / "records"


def settings(records, output, **changes):
    """Few and narrow: two phases of two steps, then one more step of D and of G."""
    small = {"base_filters": 4, "batch_size": 2, "max_epochs": 1, "d_phase_steps": 2, "g_phase_steps": 3}
    return TrainSettings(str(records), str(output), **{**small, "precision": "float32", "losses": LOSSES, **changes})


@pytest.fixture(scope="module")
def model(records, tmp_path_factory):
    """A model folder after one epoch, four steps of G."""
    output = tmp_path_factory.mktemp("model")
    train(settings(records, output, **SHARPENER))
    return output


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_model_folder(model, records):
    """The folder holds networks of the width asked for, the front end, and what they were trained with and on."""
    assert {p.name for p in model.iterdir()} >= {"config.json", "generator.npz", "discriminator.npz", "history.csv"}
    config, index = read_config(model), json.loads((records / "index.json").read_text())
    assert (config.name, config.method, config.source_kernel, config.target_kernel) == ("sharpener", "stan_ct", "SOFT", "SHARP")
    assert (config.base_filters, config.discriminator_filters, config.spectral, config.sharpens) == (4, 4, True, True)
    assert list(config.front_end.gain) == index["front_end"]["gain"]
    assert config.window == HUWindow()
    record = config.training
    assert record["settings"]["losses"]["l1_weight"] == 3.0
    assert record["data"]["patches"] == {"train": 8, "validation": 4}
    assert record["data"]["pairs"][0]["source"]["series_uid"] == f"{STUDY_UID}.1"
    assert record["versions"]["tensorflow"] == tf.__version__
    assert "training/" not in (model / "config.json").read_text()  # no paths of this machine


def test_history_counts_and_alternates(model):
    """D starts; each row has its phase and how many steps G has made; the epoch ends within a phase."""
    rows = history(model)
    assert list(rows[0]) == [
        *("step", "phase", "total_d", "adversarial_d", "feature", "penalty", "total_g", "adversarial_g", "latent", "l1"),
        *("p_real_target", "p_real_synthesized"),
    ]
    assert [row["phase"] for row in rows] == ["d", "d", "g", "g", "g", "d", "d", "g"]
    assert [int(row["step"]) for row in rows] == [0, 0, 1, 2, 3, 3, 3, 4]


def test_history_adds_up(model):
    """In every row the terms with their weights make the total, and the columns of the other side are empty."""
    for row in history(model):
        value = {name: float(text) for name, text in row.items() if text and name != "phase"}
        if row["phase"] == "d":
            total = value["adversarial_d"] - 0.25 * value["feature"]
            assert value["total_d"] == pytest.approx(total, rel=1e-4, abs=1e-5)
            assert value["feature"] > 0
            assert 0 < value["p_real_target"] < 1
            assert not {"total_g", "l1", "latent", "penalty"} & set(value)
        else:
            total = 0.5 * value["adversarial_g"] + 2 * value["latent"] + 3 * value["l1"]
            assert value["total_g"] == pytest.approx(total, rel=1e-4, abs=1e-5)
            assert min(value["latent"], value["l1"]) > 0
            assert not {"total_d", "feature", "p_real_target"} & set(value)
        assert 0 < value["p_real_synthesized"] < 1


def test_qc_threshold(model, records):
    """qc_threshold is the 1 % quantile of P(real) over what the saved G makes of the validation patches."""
    config, judged = read_config(model), []
    generator, discriminator = config.generator(), config.discriminator()
    load_weights(model, "generator", generator)
    load_weights(model, "discriminator", discriminator)
    (shard,) = records.glob("validation-*.tfrecord")
    for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
        raw = tf.train.Example.FromString(record).features.feature["pair"].bytes_list.value[0]
        source = np.frombuffer(raw, "<i2").reshape(2, 1, 256, 256, 1)[0]
        logits = np.asarray(discriminator(generator(config.window.to_network(source)))[1], np.float64)
        judged.append((1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))).mean())
    low, second = sorted(judged)[:2]
    assert config.qc_threshold == pytest.approx(low + 0.03 * (second - low), abs=2e-6)  # 1 % of the way through 4 values
    assert low < config.qc_threshold < second


def test_resume(model, records, tmp_path):
    """A run goes on where its last checkpoint is: networks come back exactly, moving estimates too, and steps go on."""
    before = {name: (model / name).read_bytes() for name in ("generator.npz", "discriminator.npz", "history.csv")}
    train(settings(records, model, **SHARPENER, seed=9))  # its epoch is over: nothing to do
    assert {name: (model / name).read_bytes() for name in before} == before
    train(settings(records, model, **SHARPENER, max_epochs=2, g_phase_steps=4, d_phase_steps=1))
    rows = history(model)
    assert (model / "history.csv").read_bytes().startswith(before["history.csv"])
    assert [(row["phase"], int(row["step"])) for row in rows[8:]] == [("d", 4), ("g", 5), ("g", 6), ("g", 7), ("g", 8)]
    assert float(rows[8]["p_real_target"]) == pytest.approx(float(rows[6]["p_real_target"]), abs=0.05)
    assert (model / "generator.npz").read_bytes() != before["generator.npz"]
    reader = tf.train.load_checkpoint(str(model / "checkpoints"))
    counters = {
        name.split("/")[0]: int(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map() if is_counter(name)
    }
    assert counters == {"step": 8, "g_optimizer": 8, "d_optimizer": 5}


def is_counter(name):
    return name.startswith("step/") or "_optimizer/_iterations/" in name or "_optimizer/iterations/" in name


def test_kernel_filter(records, tmp_path):
    """method=kernel_filter saves the fitted front end and trains nothing."""
    config = train(settings(records, tmp_path, method="kernel_filter"))
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    saved = read_config(tmp_path)
    assert saved.method == "kernel_filter"
    assert saved.qc_threshold == 0.0
    assert list(saved.front_end.gain) == json.loads((records / "index.json").read_text())["front_end"]["gain"]
    assert np.interp(2.0, saved.front_end.frequency, saved.front_end.gain) > 1.3  # it sharpens
    assert config.front_end == saved.front_end


def without(records, folder, **changes):
    """The same records with another index."""
    folder.mkdir()
    for path in records.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **changes}))
    return folder


def test_kernel_filter_without_front_end(records, tmp_path):
    """A kernel filter from records without a front end is refused, with how to make them."""
    bare = without(records, tmp_path / "records", front_end=None)
    with pytest.raises(ValueError, match=r"kernel_filter needs records made with --front_end=amplitude or --front_end=wiener"):
        train(settings(bare, tmp_path / "model", method="kernel_filter"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_records_without_patches(records, tmp_path, split):
    """Records that lack training or validation patches are refused before a step is made, by the name of what is missing."""
    patches = {"train": 8, "validation": 4, split: 0}
    empty = without(records, tmp_path / "records", patches=patches)
    with pytest.raises(ValueError, match=rf"(?i)no {split}"):
        train(settings(empty, tmp_path / "model"))
    assert not (tmp_path / "model/history.csv").exists()


def run(*flags):
    # The two scripts start together; each takes a few seconds to import TensorFlow.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_script(records, tmp_path):
    """train.py ends with 0 and names the model; without records it ends with 1 and one line that says what to run."""
    good = run(f"--records_dir={records}", f"--output_dir={tmp_path / 'm'}", "--method=kernel_filter", "--name=curve")
    bad = run(f"--records_dir={tmp_path / 'nowhere'}", f"--output_dir={tmp_path / 'n'}")
    out, err = good.communicate(timeout=60)
    assert good.returncode == 0, err
    assert out == f"{tmp_path / 'm'}: model 'curve', SOFT -> SHARP\n"
    assert read_config(tmp_path / "m").training["settings"]["learning_rate"] == 1e-4
    out, err = bad.communicate(timeout=60)
    assert bad.returncode == 1
    assert err == (
        f"train: {tmp_path / 'nowhere/index.json'} does not exist: make patch records with data/make_patches.py first\n"
    )
    assert (out, (tmp_path / "n").exists()) == ("", False)


def phase(kind, synthesized, target=None, limit=100, **thetas):
    """Runs one phase on scripted P(real), values that go on for ever from the last one; returns its number of steps."""
    made = []

    def step(batch):
        assert batch == len(made)  # a fresh batch each
        made.append(batch)
        logs = {"p_real_synthesized": synthesized[min(batch, len(synthesized) - 1)]}
        return {**logs, "p_real_target": target[min(batch, len(target) - 1)]} if kind == "d" else logs

    steps = list(_phase(step, count(), kind, limit, TrainSettings("", "", **thetas)))
    assert len(steps) == len(made)
    return len(steps)


def test_g_phase_ends_when_won():
    """A G-phase is won once P(real | G(x')) has been above theta_g for twenty batches, and not by a lucky one."""
    assert phase("g", [0.995]) == WON_AFTER
    assert phase("g", [0.5] * 7 + [1.0] * 100, limit=200) == 7 + WON_AFTER
    assert phase("g", [1.0] * 19 + [0.0] + [1.0] * 100) == 20 + WON_AFTER
    assert phase("g", [0.995, 0.5] * 50) == 100
    assert phase("g", [0.6], theta_g=0.55) == WON_AFTER
    assert phase("g", [0.6], theta_g=0.65) == 100


def test_d_phase_ends_when_won():
    """A D-phase is won when P(real | G(x')) < 1 - theta_d and P(real | x) > theta_d; one of the two is not enough."""
    assert phase("d", [0.005], [0.995]) == WON_AFTER
    assert phase("d", [0.995], [0.005]) == 100
    assert phase("d", [0.005], [0.985]) == 100
    assert phase("d", [0.015], [0.995]) == 100
    assert phase("d", [0.35], [0.65], theta_d=0.6) == WON_AFTER


def test_phase_is_won_on_average():
    """The test is a moving mean: batches that lie now a little below, now more above the threshold win."""
    assert phase("g", [0.985, 0.999] * 50) == WON_AFTER
    assert phase("d", [0.015, 0.001] * 50, [0.985, 0.999] * 50) == WON_AFTER


def test_phase_ends_at_the_latest():
    """A phase that is not won ends after `limit` steps, and a limit below the average's length is one too."""
    assert phase("g", [0.5], limit=7) == 7
    assert phase("d", [0.0], [1.0], limit=5) == 5


def test_phase_passes_on_every_term():
    """A phase yields each step's terms as plain numbers while it runs, not at its end."""

    def step(batch):
        return {"l1": tf.constant(batch), "p_real_synthesized": tf.constant(0.5)}

    steps = _phase(step, count(), "g", 9, TrainSettings("", ""))
    assert list(islice(steps, 2)) == [{"l1": 0.0, "p_real_synthesized": 0.5}, {"l1": 1.0, "p_real_synthesized": 0.5}]
