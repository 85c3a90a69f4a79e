"""The folder of a model after training: what it holds, and which run may go on in it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from runs import PAPER, PLAIN, RULES, counters, settings, table, tree, without
from synthetic import STUDY_UID

from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.errors import UsageError
from stan_ct.models.folder import load_weights, read_config, read_training_slices
from stan_ct.networks.config import DiscriminatorConfig
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.training import models
from stan_ct.training.models import seen_slices
from stan_ct.training.resume import check_same_run, run_identity
from stan_ct.training.trainer import train

pytestmark = pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")
NORMALIZED = replace(PLAIN, normalization="batch", full_resolution=True)
SAME = {"name": "sharpener", "generator": NORMALIZED, "phases": replace(RULES, num_copies=2)}


@pytest.fixture(scope="module")
def model(records, unoptimized_graphs, shallow_networks, tmp_path_factory):
    """The model folder of two Gs and two Ds of one level each after one epoch, four steps of each G."""
    output = tmp_path_factory.mktemp("model")
    train(settings(records, output, **SAME), flags="--a=1\n")
    return output


def test_model_folder(model, records):
    """The folder holds networks of the width asked for, the front end, and what they were trained with and on."""
    assert {p.name for p in model.iterdir()} == {
        *("config.json", "generator.npz", "discriminator.npz", "history.csv", "validation.csv", "train.flags"),
        *("SHA256SUMS", "training_slices.txt", "checkpoints", "tensorboard"),
    }
    config, index = read_config(model), json.loads((records / "index.json").read_text())
    assert (config.name, config.method, config.source_kernel, config.target_kernel) == ("sharpener", "stan_ct", "SOFT", "SHARP")
    assert (config.generator, config.sharpens) == (NORMALIZED, True)
    assert config.discriminator == DiscriminatorConfig(base_filters=1, spectral=True)
    assert config.front_end.to_json() == FrontEnd.from_json(index["front_end"]).to_json()
    assert config.hu_window == HUWindow()
    record = config.training
    assert record["settings"]["losses"]["l1_weight"] == 3.0
    assert record["settings"]["phases"]["g_phase_steps"] == 3
    assert record["data"]["patches"] == {"train": 8, "validation": 4}
    assert record["data"]["pairs"][0]["source"]["series_uid"] == f"{STUDY_UID}.1"
    assert record["versions"]["tensorflow"] == tf.__version__
    assert "training/" not in (model / "config.json").read_text()  # no paths of this machine
    assert (model / "train.flags").read_text() == "--a=1\n"


def test_history_counts_and_alternates(model):
    """D starts; each row has its phase and how many steps G has made; the epoch ends within a phase."""
    rows = table(model)
    assert [row["phase"] for row in rows] == ["d", "d", "g", "g", "g", "d", "d", "g"]
    assert [int(row["step"]) for row in rows] == [0, 0, 1, 2, 3, 3, 3, 4]
    assert [int(row["phases"]) for row in rows] == [0, 0, 1, 1, 1, 2, 2, 3]
    assert [int(row["version"]) for row in rows] == [0] * 5 + [1] * 3
    assert {row["attempt"] for row in rows} == {"0"}


def test_history_adds_up(model):
    """In every row the terms with their weights make the total, and the columns of the other side are empty."""
    for row in table(model):
        value = {name: float(text) for name, text in row.items() if text and name not in ("phase", "ended")}
        if row["phase"] == "d":
            total = value["adversarial_d"] - 0.25 * value["feature"]
            assert value["total_d"] == pytest.approx(total, rel=1e-4, abs=1e-5)
            assert value["feature"] > 0
            assert 0 < value["p_real_target_d0"] < 1
            assert not {"total_g", "l1", "latent", "penalty"} & set(value)
        else:
            total = 0.5 * value["adversarial_g"] + 2 * value["latent"] + 3 * value["l1"]
            assert value["total_g"] == pytest.approx(total, rel=1e-4, abs=1e-5)
            assert min(value["latent"], value["l1"]) > 0
            assert not {"total_d", "feature", "p_real_target_d0"} & set(value)
        assert all(0 < value[f"p_real_synthesized_d{d}_g{g}"] < 1 for d in (0, 1) for g in (0, 1))


def test_validation_table(model):
    """The source's own error stands first; then both Gs after each G-phase, and at the end, which came within one."""
    rows = table(model, "validation")
    assert [(row["version"], row["step"], row["g"]) for row in rows] == [
        ("0", "0", "source"),
        *(("1", "3", "0"), ("1", "3", "1"), ("2", "4", "0"), ("2", "4", "1")),
    ]
    assert all(float(row["error"]) == float(row["mae"]) > 0 for row in rows)
    assert len({row["error"] for row in rows}) == 5


def judged(folder, records):
    """Of the saved networks on validation patches: the error in HU, and P(real) of each."""
    config = read_config(folder)
    generator, discriminator = config.build_generator(), config.build_discriminator()
    load_weights(folder, "generator", generator)
    load_weights(folder, "discriminator", discriminator)
    (shard,) = records.glob("validation-*.tfrecord")
    apart, real = [], []
    for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
        raw = tf.train.Example.FromString(record).features.feature["patches"].bytes_list.value[0]
        _, source, target = np.frombuffer(raw, "<i2").reshape(3, 1, 256, 256, 1)
        made = np.asarray(generator(config.hu_window.to_network(source)))
        logits = np.asarray(discriminator(made)[1], np.float64)
        real.append((1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))).mean())
        apart.append(np.abs(config.hu_window.to_hu(made) - target.clip(-1024, 1500)).mean())
    return np.mean(apart), sorted(real)


def test_best_is_in_the_folder(model, records):
    """The folder's G is the one of lowest score in the table; qc_threshold follows from P(real) of what it makes."""
    error, (low, second, third, _) = judged(model, records)
    best = min(table(model, "validation")[1:], key=lambda row: float(row["score"]))
    assert error == pytest.approx(float(best["error"]), rel=1e-3)
    threshold = read_config(model).qc_threshold
    quantile, median = low + 0.03 * (second - low), (second + third) / 2  # 1 % and half of the way through 4 values
    assert threshold == pytest.approx(2 * quantile - median, abs=4e-6)
    assert threshold < low


def test_nothing_left_to_do(model, records):
    """A run whose epochs are over leaves all as it is, however often it is started."""
    names = ("generator.npz", "discriminator.npz", "config.json", "history.csv", "validation.csv")
    before = {name: (model / name).read_bytes() for name in names}
    train(settings(records, model, **SAME))
    assert {name: (model / name).read_bytes() for name in names} == before


def test_other_flags_are_refused(model, records):
    """A folder goes on with the flags it was begun with; others are refused before anything is written."""
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    expected = r"run of other flags: repeat its flags, or choose .* \(they differ in: generator, losses\)"
    with pytest.raises(ValueError, match=expected):
        train(settings(records, model, **{**SAME, "generator": PLAIN, "losses": PAPER}), flags="--b=2\n")
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before


def remade(records, folder, change):
    """A copy of records whose index has been changed."""
    shutil.copytree(records, folder)
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def other_source(index, part):
    for pair in index["pairs"]:
        if pair["split"] == part:
            pair["source"]["series_uid"] += ".1"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda index: other_source(index, "train"), "train series"),
        (lambda index: other_source(index, "validation"), "validation series"),
        (lambda index: index["front_end"]["SOFT"]["gain"].__setitem__(3, 1.125), "front end"),
        (lambda index: index["fingerprints"]["target"][0].update(spread=0.75), "protocols"),
        (lambda index: index["pairs"][0].update(patches=7), "train slices"),
    ],
    ids=["train", "validation", "front end", "protocols", "patches"],
)
def test_other_records_are_refused(model, records, tmp_path, change, names):
    """As many patches of other patients are other records: a run that went on would validate on what it has learnt."""
    other = remade(records, tmp_path / "records", change)
    with pytest.raises(UsageError, match=rf"run on other records: .* \(they differ in: {names}\)"):
        check_same_run(model, counters(model)["settings"], run_identity(settings(other, model, **SAME)))


def test_other_pixels_of_the_same_series_are_other_records(model, records, tmp_path):
    """A simulation with other settings has the same UIDs; the plan holds digests of the pixels."""
    other = remade(records, tmp_path / "records", lambda index: None)
    plan = json.loads((other / "plan.json").read_text())
    name = next(name for name in plan["files"] if name.startswith("validation"))
    plan["files"][name]["slices"] = "0" * 64
    (other / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UsageError, match=r"\(they differ in: validation slices\)"):
        check_same_run(model, counters(model)["settings"], run_identity(settings(other, model, **SAME)))


def test_records_elsewhere_with_a_test_part_are_the_same(records, tmp_path):
    """Where records lie, and what they hold beside training and validation, makes no other run."""

    def change(index):
        index["settings"].update(input_dir=["/elsewhere"], output_dir="moved")
        index["patches"]["test"] = 3
        index["refused"].append("truncated: IM1.dcm")

    moved = remade(records, tmp_path / "moved", change)
    assert run_identity(settings(moved, tmp_path)) == run_identity(settings(records, tmp_path))


def test_a_run_is_one_of_the_model_it_started_from(records, model, tmp_path):
    """A fine-tuned model's folder goes on if the model it came from was moved, and not if it was trained on meanwhile."""
    shutil.copytree(model, tmp_path / "init")
    started = run_identity(settings(records, tmp_path, init_model=str(model)))
    assert run_identity(settings(records, tmp_path, init_model=str(tmp_path / "init"))) == started
    config = tmp_path / "init/config.json"
    config.write_text(config.read_text().replace('"qc_threshold": ', '"qc_threshold": 0'))
    assert run_identity(settings(records, tmp_path, init_model=str(tmp_path / "init"))) != started


def test_a_folder_with_another_model_is_left_alone(records, model, tmp_path):
    """A baseline replaces neither a run of networks nor another baseline, and networks no baseline; its own it makes again."""
    trained = tree(model)
    with pytest.raises(UsageError, match=r"holds a run that trains networks: choose another --output_dir"):
        train(settings(records, model, method="kernel_filter"))
    assert tree(model) == trained
    first = settings(records, tmp_path / "m", method="kernel_filter")
    train(first)
    before = tree(tmp_path / "m")
    train(first)
    assert tree(tmp_path / "m") == before
    others = without(records, tmp_path / "records", patches={"train": 8, "validation": 3})
    baseline, anew = replace(first, method="histogram"), replace(first, records_dir=str(others))
    for other in (baseline, anew, settings(records, tmp_path / "m")):
        with pytest.raises(UsageError, match=r"holds the model '.*', which other settings or records have made, and this run"):
            train(other)
        assert tree(tmp_path / "m") == before
    (tmp_path / "m/config.json").write_text("{")  # nothing to lose
    train(baseline)
    assert read_config(tmp_path / "m").method == "histogram"


def test_fine_tuning_starts_from_the_models_networks(records, model, tmp_path):
    """With `init_model` all copies start as the model's networks; with another seed alone, they do not."""
    index = json.loads((records / "index.json").read_text())
    tuned, anew = (
        models.competition(started, started.config(index))
        for started in (settings(records, tmp_path, **SAME, **more) for more in ({"init_model": str(model)}, {"seed": 5}))
    )
    for label in ("generator", "discriminator"):
        with np.load(model / f"{label}.npz") as stored:
            before = [stored[name] for name in stored.files]
        for network in getattr(tuned, f"{label}s"):
            for weight, value in zip(network.get_weights(), before, strict=True):
                np.testing.assert_array_equal(weight, value)
        assert all(np.abs(network.get_weights()[0] - before[0]).max() > 1e-3 for network in getattr(anew, f"{label}s"))


def test_a_model_knows_its_training_slices(records, model, tmp_path):
    """Those of its records, four and two of source and target each, and those that the model knew which it started from."""
    index, known = json.loads((records / "index.json").read_text()), read_training_slices(model)
    assert known == TrainingSlices.from_index(index)
    assert (len(known.train), len(known.validation), len(known.study), known.series) == (8, 4, 1, frozenset())
    others = index | {"instances": {"train": "0" * 12, "validation": ""}, "studies": "1" * 12}
    tuned = seen_slices(settings(records, tmp_path, init_model=str(model)), others)
    assert tuned == known | TrainingSlices(frozenset(["0" * 12]), study=frozenset(["1" * 12]))
    assert seen_slices(settings(records, tmp_path), others).train == {"0" * 12}


def test_fine_tuning_needs_the_same_kind_of_networks(records, model, tmp_path):
    """Other networks, or none, are refused with what the model has."""
    wide = {"generator": replace(NORMALIZED, base_filters=2), "discriminator": DiscriminatorConfig(1, spectral=True)}
    with pytest.raises(ValueError, match=r"has other networks than these flags ask for; it has base_filters=1"):
        train(settings(records, tmp_path / "a", init_model=str(model), **wide))
    with pytest.raises(FileNotFoundError, match="holds no model"):
        train(settings(records, tmp_path / "b", init_model="nothing"))
