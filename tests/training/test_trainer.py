"""From records to a model folder: what is trained, logged, measured, saved, and taken up again."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from synthetic import STUDY_UID

from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.errors import UsageError
from stan_ct.models.folder import load_weights, read_config, read_training_slices
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.reconstruction.synthesis import load_synthesizer
from stan_ct.training import checkpoints, trainer
from stan_ct.training.models import seen_slices
from stan_ct.training.phases import PhaseRules
from stan_ct.training.quality import QUALITY, Quality
from stan_ct.training.resume import lost_model, run_identity
from stan_ct.training.settings import TrainSettings
from stan_ct.training.stopping import Stopped
from stan_ct.training.trainer import train

pytestmark = pytest.mark.usefixtures("unoptimized_graphs")
ROOT = Path(__file__).parents[2]
PAPER = LossSettings(adversarial="wgan", adversarial_weight=0.01, texture_weight=0.0, mask_losses=False)
LOSSES = replace(PAPER, adversarial_weight=0.5, feature_weight=0.25, latent_weight=2.0, l1_weight=3.0)
RULES = PhaseRules(num_copies=1, d_phase_steps=2, g_phase_steps=3, max_rollbacks=0, averaging_batches=1)


PLAIN = GeneratorConfig(base_filters=1, residual=False)
NORMALIZED = replace(PLAIN, normalization="batch")
RESIDUAL = replace(PLAIN, residual=True)


def settings(records, output, **changes):
    """Narrow networks, four batches to an epoch, phases of two steps of D and three of G that nobody wins."""
    small = {"batch_size": 2, "max_epochs": 1, "phases": RULES, "precision": "float32", "losses": LOSSES, "ema": 0.0}
    networks = {"generator": PLAIN, "discriminator": DiscriminatorConfig(spectral=True), "storage": "float32"}
    return TrainSettings(str(records), str(output), **{**small, **networks, "learning_rate": 1e-4, **changes})


@pytest.fixture(scope="module")
def model(records, tmp_path_factory):
    """The model folder of two Gs and two Ds after one epoch, four steps of each G, with optimized graphs as for a user."""
    output = tmp_path_factory.mktemp("model")
    two = settings(records, output, name="sharpener", generator=NORMALIZED, phases=replace(RULES, num_copies=2))
    before = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    train(two, flags="--a=1\n")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
    return output


def table(folder, name="history"):
    with open(folder / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def counters(folder):
    return json.loads((folder / "checkpoints/last/counters.json").read_text())


def weights(folder, label="generator"):
    with np.load(folder / f"{label}.npz") as stored:
        return [stored[name] for name in stored.files]


def assert_same_run(first, second):
    """Two folders tell of the same run: final and best networks and slots bit for bit, tables to the last digit."""
    for name in ("history", "validation"):
        a, b = table(first, name), table(second, name)
        assert len(a) == len(b)
        for row, other in zip(a, b, strict=True):
            assert row.keys() == other.keys()
            for key, text in row.items():  # a total may be added up in another order where steps were compiled in another
                same = text == other[key] or float(other[key]) == pytest.approx(float(text), rel=1e-5)
                assert same, (name, row["step"], key, text, other[key])
    names = sorted(path.name for path in (first / "checkpoints/last").glob("player-*.npz"))
    assert names == sorted(path.name for path in (second / "checkpoints/last").glob("player-*.npz"))
    for path in [Path("checkpoints/last", name) for name in names] + [Path("generator.npz"), Path("discriminator.npz")]:
        with np.load(first / path) as a, np.load(second / path) as b:
            for key in a.files:
                np.testing.assert_array_equal(a[key], b[key], err_msg=str(path))
    assert read_config(first).qc_threshold == read_config(second).qc_threshold


@pytest.fixture
def steps(monkeypatch):
    """What each checkpoint holds, as it is written: states by copy, snapshots, counters."""
    seen, save = [], checkpoints.save

    def saving(folder, players, snapshots, counters):
        states = {name: checkpoints.take(variables) for name, variables in players.all().items()}
        seen.append((states, dict(snapshots), json.loads(json.dumps(counters))))
        save(folder, players, snapshots, counters)

    monkeypatch.setattr(trainer.checkpoints, "save", saving)
    return seen


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


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
    train(settings(records, model, name="sharpener", generator=NORMALIZED, phases=replace(RULES, num_copies=2)))
    assert {name: (model / name).read_bytes() for name in names} == before


TRIES = replace(RULES, max_rollbacks=1)


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """A run of two epochs: D 2 + 2 steps (two tries), G 3 + 3, D 2 + 2, and 2 of G, within whose phase it ends."""
    output = tmp_path_factory.mktemp("whole")
    train(settings(records, output, phases=TRIES, max_epochs=2))
    return output


class Killed(BaseException):
    """The process is gone: nothing is caught or written any more."""


@pytest.mark.parametrize("at", [2, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 4, 5, 7, 10, 15))])
def test_exact_resume(records, whole, tmp_path, monkeypatch, at):
    """Killed at a step, within a try, at a rollback, or between phases, and resumed: the same run, bit for bit."""
    step, saved = trainer._Run._one_step, []

    def dying(run, stream):
        if run.position == at and not saved:
            saved.append(at)
            raise Killed
        step(run, stream)

    same = settings(records, tmp_path, phases=TRIES, max_epochs=2, checkpoint_minutes=0)
    monkeypatch.setattr(trainer._Run, "_one_step", dying)
    with pytest.raises(Killed):
        train(same)
    assert counters(tmp_path)["position"] == at
    train(same)
    assert_same_run(whole, tmp_path)


def test_resume_from_an_older_checkpoint(records, whole, tmp_path, monkeypatch):
    """What came after the last checkpoint, rows and versions too, is made again."""
    step = trainer._Run._one_step

    def dying(run, stream):
        if run.position == 3:
            run._checkpoint()
        if run.position == 12:
            raise Killed
        step(run, stream)

    same = settings(records, tmp_path, phases=TRIES, max_epochs=2)
    monkeypatch.setattr(trainer._Run, "_one_step", dying)
    with pytest.raises(Killed):
        train(same)
    assert (counters(tmp_path)["position"], len(table(tmp_path)), len(table(tmp_path, "validation"))) == (3, 12, 2)
    monkeypatch.undo()
    train(same)
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-9]), marks=pytest.mark.slow)],
    ids=["gone", "truncated"],
)
def test_a_lost_model_is_made_again(records, tmp_path, capsys, damage):
    """A folder whose model a kill has left half written gets a whole one, though no later version scores better."""
    train(settings(records, tmp_path, max_steps=2, generator=RESIDUAL))
    assert not lost_model(tmp_path)
    damage(tmp_path / "generator.npz")
    assert "generator.npz" in lost_model(tmp_path)
    train(settings(records, tmp_path, max_steps=2, generator=RESIDUAL))
    assert "the best version so far is lost, the next takes its place" in capsys.readouterr().err
    assert not lost_model(tmp_path)


def test_more_epochs(records, whole, tmp_path):
    """A run that was over goes on with more epochs as if it had not been, though G was measured within a phase."""
    train(settings(records, tmp_path, phases=TRIES))
    assert [row["step"] for row in table(tmp_path, "validation")] == ["0", "4"]
    train(settings(records, tmp_path, phases=TRIES, max_epochs=2))
    assert [row["step"] for row in table(tmp_path, "validation")] == ["0", "6", "8"]
    assert_same_run(whole, tmp_path)


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, Stopped), pytest.param(signal.SIGINT, KeyboardInterrupt, marks=pytest.mark.slow)],
)
def test_told_to_stop(records, whole, tmp_path, monkeypatch, number, raised):
    """SIGTERM and Ctrl-C end the run after the step under way, with a checkpoint from which it goes on as the same run."""
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    observe = trainer.Referee.observe

    def telling(referee, *judged):
        if referee.phases == 1 and referee.step == 0 and referee.attempt == 0:
            os.kill(os.getpid(), number)
        return observe(referee, *judged)

    same = settings(records, tmp_path, phases=TRIES, max_epochs=2)
    monkeypatch.setattr(trainer.Referee, "observe", telling)
    with pytest.raises(raised):
        train(same)
    monkeypatch.undo()
    assert (counters(tmp_path)["position"], len(table(tmp_path))) == (5, 5)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    if raised is Stopped:
        train(same)
        assert_same_run(whole, tmp_path)


def test_rollback(records, tmp_path, steps):
    """A copy that has not won goes back to where the phase began, weights and slots; at last the better try stays."""
    train(settings(records, tmp_path, phases=replace(TRIES, g_phase_steps=2), checkpoint_minutes=0))
    states, snapshots, _ = zip(*steps, strict=True)  # D: 0, 1 | 2, 3, G: 4, 5 | 6, 7, and the end
    rows = table(tmp_path)
    assert [row["attempt"] for row in rows] == ["0", "0", "1", "1"] * 2
    assert not equal(states[4]["g0"], states[3]["g0"])
    assert equal(states[5]["g0"], states[3]["g0"])
    assert equal(states[5]["g0"], snapshots[5]["start-0"])
    assert not equal(states[6]["g0"], states[4]["g0"])  # fresh batches
    assert equal(states[2]["g0"], states[3]["g0"])
    assert equal(states[7]["d0"], states[3]["d0"])
    assert equal(states[1]["d0"], snapshots[0]["start-0"])
    first, last = (float(rows[i]["p_real_synthesized_d0_g0"]) for i in (5, 7))
    assert equal(states[7]["g0"], snapshots[6]["best-0"]) == (first > last)
    first, last = (min(float(rows[i]["p_real_target_d0"]), 1 - float(rows[i]["p_real_synthesized_d0_g0"])) for i in (1, 3))
    assert equal(states[3]["d0"], snapshots[2]["best-0"]) == (first > last)
    assert snapshots[3] == snapshots[7] == {}


def test_history_copies(records, tmp_path, steps):
    """With `history` the first copy trains; after a phase the second is what the first was before it, slots too."""
    rules = replace(RULES, num_copies=2, opponents="history", d_phase_steps=1, g_phase_steps=2)
    train(settings(records, tmp_path, phases=rules, checkpoint_minutes=0))
    states = [held[0] for held in steps]  # D, G, G, D, G, G
    assert [row["phase"] for row in table(tmp_path)] == ["d", "g", "g", "d", "g", "g"]
    assert equal(states[2]["g1"], states[0]["g0"])
    assert equal(states[3]["d1"], states[2]["d0"])
    assert equal(states[5]["g1"], states[3]["g0"])
    assert not equal(states[5]["g0"], states[5]["g1"])
    assert equal(states[1]["g1"], states[0]["g1"])
    assert {row["g"] for row in table(tmp_path, "validation")} == {"source", "0"}


def scripted(*errors):
    """A metric that gives one error after the other, the first for the source."""

    def metric(target):
        values = iter(errors)
        return lambda output: {"scripted": next(values)}

    return metric


@pytest.fixture
def equal_quality(monkeypatch):
    """Versions that differ in their errors alone."""
    monkeypatch.setattr(Quality, "__call__", lambda self, output: dict.fromkeys(QUALITY, 1.0))


@pytest.mark.usefixtures("equal_quality")
def test_best_version(records, tmp_path):
    """The best stays in the folder, though later versions follow, and of equals the first."""
    rules = replace(RULES, d_phase_steps=1, g_phase_steps=1)
    train(settings(records, tmp_path / "three", phases=rules, max_steps=2), scripted(9.0, 5.0, 3.0))
    train(settings(records, tmp_path / "five", phases=rules), scripted(9.0, 5.0, 3.0, 4.0, 3.0))
    assert [row["error"] for row in table(tmp_path / "five", "validation")] == ["9", "5", "3", "4", "3"]
    assert equal(weights(tmp_path / "five"), weights(tmp_path / "three"))
    kept = counters(tmp_path / "five")
    assert (kept["best"], kept["best_version"]) == (pytest.approx((3.005 / 9.005 + 1) / 2), 2)


@pytest.mark.usefixtures("equal_quality")
def test_best_survives_the_end_of_the_run(records, tmp_path, monkeypatch):
    """The best of a run that dies is in the folder; the resumed run remembers it, and a worse one does not replace it."""
    step = trainer._Run._one_step

    def dying(run, stream):
        if run.position == 3:
            raise Killed
        step(run, stream)

    same = settings(records, tmp_path, phases=replace(RULES, d_phase_steps=1, g_phase_steps=1), checkpoint_minutes=0)
    monkeypatch.setattr(trainer._Run, "_one_step", dying)
    with pytest.raises(Killed):
        train(same, scripted(9.0, 5.0))
    best = weights(tmp_path)
    monkeypatch.undo()
    train(same, scripted(9.0, 6.0, 7.0, 8.0))
    assert [row["error"] for row in table(tmp_path, "validation")] == ["9", "5", "6", "7", "8"]
    assert equal(weights(tmp_path), best)


@pytest.mark.usefixtures("equal_quality")
def test_undefined_errors(records, tmp_path):
    """A version whose error is undefined is saved only where there is none yet, and any other replaces it."""
    rules = replace(RULES, d_phase_steps=1, g_phase_steps=1)
    train(settings(records, tmp_path / "two", phases=rules, max_steps=2), scripted(9.0, np.nan, 5.0))
    train(settings(records, tmp_path, phases=rules), scripted(9.0, np.nan, 5.0, np.nan, 6.0))
    assert [row["error"] for row in table(tmp_path, "validation")] == ["9", "inf", "5", "inf", "6"]
    assert equal(weights(tmp_path), weights(tmp_path / "two"))
    train(settings(records, tmp_path / "all", phases=replace(rules, g_phase_steps=4)), scripted(9.0, np.nan))
    assert weights(tmp_path / "all")


def test_minutes_are_counted_over_resumes(records, tmp_path):
    """max_minutes is of all runs together: once used up, a resumed run makes no step; a longer one goes on."""
    train(settings(records, tmp_path, max_minutes=1e-9))
    spent = counters(tmp_path)["seconds"]
    assert (counters(tmp_path)["position"], spent > 0) == (1, True)
    assert [row["version"] for row in table(tmp_path, "validation")] == ["0", "1"]  # a model was left all the same
    train(settings(records, tmp_path, max_minutes=spent / 61))
    assert (counters(tmp_path)["position"], counters(tmp_path)["seconds"]) == (1, spent)
    train(settings(records, tmp_path, max_minutes=spent / 60 + 1e-9))
    assert counters(tmp_path)["position"] == 2
    assert counters(tmp_path)["seconds"] > spent


def test_other_flags_are_refused(model, records):
    """A folder goes on with the flags it was begun with; others are refused before anything is written."""
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    for changes, names in (
        ({"losses": PAPER}, "losses"),
        ({"generator": RESIDUAL, "phases": RULES}, "generator, phases"),
    ):
        same = {"name": "sharpener", "generator": NORMALIZED, "phases": replace(RULES, num_copies=2)}
        expected = rf"run of other flags: repeat its flags, or choose .* \(they differ in: {names}\)"
        with pytest.raises(ValueError, match=expected):
            train(settings(records, model, **{**same, **changes}), flags="--b=2\n")
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
    same = {"name": "sharpener", "generator": NORMALIZED, "phases": replace(RULES, num_copies=2)}
    other = remade(records, tmp_path / "records", change)
    with pytest.raises(UsageError, match=rf"run on other records: .* \(they differ in: {names}\)"):
        train(settings(other, model, **same))


def test_other_pixels_of_the_same_series_are_other_records(model, records, tmp_path):
    """A simulation with other settings has the same UIDs; the plan holds digests of the pixels."""
    same = {"name": "sharpener", "generator": NORMALIZED, "phases": replace(RULES, num_copies=2)}
    other = remade(records, tmp_path / "records", lambda index: None)
    plan = json.loads((other / "plan.json").read_text())
    name = next(name for name in plan["files"] if name.startswith("validation"))
    plan["files"][name]["slices"] = "0" * 64
    (other / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UsageError, match=r"\(they differ in: validation slices\)"):
        train(settings(other, model, **same))


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


def test_losses_that_are_not_finite(records, tmp_path):
    """A loss that is not finite ends the run: step and term are named, and the checkpoint from before it stays."""
    with pytest.raises(ValueError, match=r"step 0 of G, D-phase, batch 2: .*total_d.* not finite") as told:
        train(settings(records, tmp_path, learning_rate=1e38, checkpoint_minutes=0))
    assert "adversarial_d" in str(told.value)
    assert (counters(tmp_path)["position"], len(table(tmp_path))) == (1, 1)


def synthesize(folder):
    """Runs the synthesizer of a folder on smooth noise; HU and P(real)."""
    patches = np.random.default_rng(0).uniform(-900, 900, (3, 256, 256)).astype(np.float32)
    return load_synthesizer(folder, "float32")(patches)


def test_joint_conditional(records, tmp_path):
    """Joint training is a step of D, a step of G, and so on; versions come every g_phase_steps; D judges pairs."""
    train(
        settings(
            records,
            tmp_path,
            competition="joint",
            discriminator=DiscriminatorConfig(conditional=True),
            phases=RULES,
            checkpoint_minutes=0,
        )
    )
    assert [row["phase"] for row in table(tmp_path)] == ["d", "g"] * 4
    assert [int(row["version"]) for row in table(tmp_path)] == [0] * 6 + [1] * 2
    assert [(row["version"], row["step"]) for row in table(tmp_path, "validation")] == [("0", "0"), ("1", "3"), ("2", "4")]
    config = read_config(tmp_path)
    assert config.discriminator.conditional
    assert weights(tmp_path, "discriminator")[0].shape[2] == 2 or weights(tmp_path, "discriminator")[1].shape[2] == 2
    hu, real = synthesize(tmp_path)
    assert hu.shape == (3, 256, 256)
    assert ((real > 0) & (real < 1)).all()
    assert 0 < config.qc_threshold < 1


def test_unet(records, tmp_path):
    """method=unet trains G alone; its folder has no D, and nothing that it makes is rejected."""
    train(settings(records, tmp_path, method="unet"))
    rows = table(tmp_path)
    assert [(row["phase"], row["step"]) for row in rows] == [("g", "1"), ("g", "2"), ("g", "3"), ("g", "4")]
    assert {float(row["adversarial_g"]) for row in rows} == {0.0}
    assert not any(name.startswith("p_real") for name in rows[0])
    assert not (tmp_path / "discriminator.npz").exists()
    hu, real = synthesize(tmp_path)
    assert (hu.shape, real.tolist()) == ((3, 256, 256), [1.0] * 3)
    assert read_config(tmp_path).qc_threshold == 0.0


def test_a_model_knows_what_it_sees_and_makes(records, tmp_path):
    """The distance of slices matters to a generator that sees several; the target's thickness, to one that changes it."""
    index = json.loads((records / "index.json").read_text())
    assert index["fingerprints"]["sources"][0]["slice_spacing"] == [0.0, 0.0]
    index["fingerprints"]["sources"][0]["slice_spacing"] = [2.5, 2.5]
    plain = settings(records, tmp_path).config(index)
    assert (plain.target_thickness, plain.sources[0].slice_spacing) == (0.0, (0.0, 0.0))
    index["settings"] |= {"pairing": "standard", "target_thickness": 1.0}
    seeing = settings(records, tmp_path, generator=GeneratorConfig(2, adjacent_slices=1)).config(index)
    assert (seeing.target_thickness, seeing.sources[0].slice_spacing, seeing.standard.slice_spacing) == (1, (2.5, 2.5), (0, 0))


def test_kernel_filter(records, tmp_path):
    """method=kernel_filter saves the fitted front end and trains nothing."""
    config = train(settings(records, tmp_path, method="kernel_filter"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["SHA256SUMS", "config.json", "training_slices.txt"]
    saved = read_config(tmp_path)
    assert saved.method == "kernel_filter"
    assert saved.qc_threshold == 0.0
    assert saved.front_end == FrontEnd.from_json(json.loads((records / "index.json").read_text())["front_end"])
    (fitted,) = saved.front_end.filters.values()
    assert np.interp(2.0, fitted.frequency, fitted.gain) > 1.3  # it sharpens
    assert config.front_end == saved.front_end
    hu, real = synthesize(tmp_path)
    assert (hu.shape, real.tolist()) == ((3, 256, 256), [1.0] * 3)


def without(records, folder, **changes):
    """The same records with another index."""
    folder.mkdir()
    for path in records.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **changes}))
    return folder


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_kernel_filter_without_front_end(records, tmp_path):
    """A kernel filter from records without a front end is refused, with how to make them."""
    bare = without(records, tmp_path / "records", front_end={})
    with pytest.raises(ValueError, match=r"kernel_filter needs records made with --front_end=blend, amplitude or wiener"):
        train(settings(bare, tmp_path / "model", method="kernel_filter"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_records_without_patches(records, tmp_path, split):
    """Records that lack training or validation patches are refused before a step is made, by the name of what is missing."""
    patches = {"train": 8, "validation": 4, split: 0}
    empty = without(records, tmp_path / "records", patches=patches)
    with pytest.raises(ValueError, match=rf"(?i)no {split}"):
        train(settings(empty, tmp_path / "model"))
    assert not (tmp_path / "model/history.csv").exists()


def run(*flags, **variables):
    """Starts train.py, without a GPU, quietly."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_script(records, tmp_path):
    """train.py ends with 0 and names the model; without records it ends with 1 and one line that says what to run."""
    good = run(f"--records_dir={records}", f"--output_dir={tmp_path / 'm'}", "--method=kernel_filter", "--name=curve")
    bad = run(f"--records_dir={tmp_path / 'nowhere'}", f"--output_dir={tmp_path / 'n'}")
    out, err = good.communicate(timeout=300)
    assert good.returncode == 0, err
    assert out == f"{tmp_path / 'm'}: model 'curve', SOFT -> SHARP\n"
    assert read_config(tmp_path / "m").training["settings"]["learning_rate"] == 3e-4
    assert "--method=kernel_filter\n" in (tmp_path / "m/train.flags").read_text()
    out, err = bad.communicate(timeout=300)
    assert bad.returncode == 1
    assert err == (
        f"train: {tmp_path / 'nowhere/index.json'} does not exist: make patch records with stan-ct make-patches first\n"
    )
    assert (out, (tmp_path / "n").exists()) == ("", False)


TINY = (
    *(
        "--base_filters=1",
        "--num_copies=2",
        "--batch_size=2",
        "--precision=float32",
        "--deterministic",
        "--averaging_batches=1",
    ),
    *("--d_phase_steps=2", "--g_phase_steps=2", "--max_rollbacks=1", "--checkpoint_minutes=0", "--ema=0", "--noresidual"),
)


def ended(process, code=0):
    """What it wrote to stderr, once it has ended with this code."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return err


def wait_for(folder, position, process):
    """Until a run's checkpoint has come so far."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        try:
            if counters(folder)["position"] >= position:
                return
        except FileNotFoundError:  # not yet, or just being replaced
            pass
        time.sleep(0.05)
    raise AssertionError(f"not at batch {position} in five minutes")


@pytest.mark.slow
def test_killed_stopped_and_resumed(records, tmp_path):
    """kill -9, then SIGTERM (exit 143), then the effective flags file: the run of train.py that was never disturbed."""
    where = [f"--records_dir={records}", "--max_epochs=12"]
    process = run(*where, *TINY, f"--output_dir={tmp_path / 'whole'}")
    ended(process)
    parts = tmp_path / "parts"
    process = run(*where, *TINY, f"--output_dir={parts}")
    wait_for(parts, 3, process)
    process.kill()
    ended(process, -signal.SIGKILL)
    process = run(*where, *TINY, f"--output_dir={parts}")
    wait_for(parts, checkpoints.read_counters(parts / "checkpoints/last")["position"] + 5, process)
    process.terminate()
    assert "train: stopped; run the same command to go on from the last checkpoint\n" in ended(process, 143)
    stopped_at = counters(parts)["position"]
    process = run(f"--flagfile={parts / 'train.flags'}")
    ended(process)
    assert counters(parts)["position"] > stopped_at
    assert_same_run(tmp_path / "whole", parts)


def workers(number, *flags):
    """As many processes of train.py that train together; the tables are those of the first."""
    ports = []
    for _ in range(number):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(f"localhost:{free.getsockname()[1]}")
    cluster = {"worker": ports}
    processes = [
        run(*flags, TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})) for i in range(number)
    ]
    for process in processes:
        ended(process)


@pytest.mark.slow
def test_two_workers(records, tmp_path):
    """Two processes with half a batch each make the run of one, and go on together from the checkpoint of the first."""
    flags = [f"--records_dir={records}", *TINY]
    process = run(*flags, f"--output_dir={tmp_path / 'one'}", "--max_epochs=2")
    ended(process)
    for epochs in (1, 2):
        workers(2, *flags, f"--output_dir={tmp_path / 'two'}", f"--max_epochs={epochs}")
    one, two = table(tmp_path / "one"), table(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert {name for name in a if a[name]} == {name for name in b if b[name]}
        assert [a[name] for name in ("step", "phase", "attempt")] == [b[name] for name in ("step", "phase", "attempt")]
        for name in ("l1", "total_d", "total_g", "p_real_target_d0", "p_real_synthesized_d1_g0"):
            if a[name]:
                assert float(b[name]) == pytest.approx(float(a[name]), rel=1e-3, abs=1e-4)
    assert not list(tmp_path.glob("two/checkpoints/*.partial"))


TWO_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stan_ct.networks.config import GeneratorConfig
from stan_ct.training import trainer
from stan_ct.training.models import seen_slices
from stan_ct.training.phases import PhaseRules
from stan_ct.training.quality import QUALITY, Quality
from stan_ct.training.resume import lost_model, run_identity
from stan_ct.training.settings import TrainSettings

records, folder, epochs = sys.argv[1:]
runs = []
go = trainer._Run.go
trainer._Run.go = lambda run: (runs.append(run), go(run))
rules = PhaseRules(d_phase_steps=2, g_phase_steps=3, max_rollbacks=1, averaging_batches=1)
small = dict(generator=GeneratorConfig(base_filters=1), batch_size=2, precision="float32", phases=rules)
trainer.train(TrainSettings(records, folder, max_epochs=int(epochs), **small))
(run,) = runs
pairs = [run.strategy.experimental_local_results(v.value) for every in run.phases.players.all().values() for v in every]
print(run.strategy.num_replicas_in_sync, len(pairs), all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs))
"""


@pytest.mark.slow
def test_two_replicas(records, tmp_path):
    """On two replicas, rolled back and resumed, a run is the same as without interruption, and the replicas stay equal."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    for name, epochs in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        command = [sys.executable, "-c", TWO_REPLICAS, records, tmp_path / name, epochs]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        replicas, variables, same = done.stdout.splitlines()[-1].split()
        assert (replicas, int(variables) > 100, same) == ("2", True, "True")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert {row["attempt"] for row in table(tmp_path / "whole")} == {"0", "1"}


def test_each_step_is_traced_once(records, tmp_path, monkeypatch):
    """A step of the same copies is compiled once in a run, however many epochs and phases it has."""
    runs, go = [], trainer._Run.go
    monkeypatch.setattr(trainer._Run, "go", lambda run: (runs.append(run), go(run)))
    train(settings(records, tmp_path, max_epochs=2))
    (run,) = runs
    assert run.position == 14
    step = run.model._compiled_step
    assert [step(phase, (0,), True).experimental_get_tracing_count() for phase in "dg"] == [1, 1]
    assert step.cache_info().currsize == 2
    assert run.phases.snapshots == {}  # nothing is kept that nobody goes back to


def test_fine_tuning_starts_from_the_models_networks(records, model, tmp_path):
    """With `init_model` and no step worth the name the networks are the model's own; with another seed alone, they are not."""
    still = {"max_steps": 1, "learning_rate": 1e-12, "generator": NORMALIZED}
    for name, more in (("tuned", {"init_model": str(model)}), ("anew", {"seed": 5})):
        train(settings(records, tmp_path / name, **still, **more))
    before, tuned, anew = (
        np.load(folder / "generator.npz")["000"] for folder in (model, tmp_path / "tuned", tmp_path / "anew")
    )
    np.testing.assert_allclose(tuned, before, atol=1e-6)
    assert np.abs(anew - before).max() > 1e-3


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


def test_phases_tell_how_they_ended(records, tmp_path):
    """The last row of each phase says who won or gave up, and how well D orders validation patches then; other rows do not."""
    rules = replace(RULES, theta_d=0.0, theta_g=1.0)  # D wins at once, G never within a phase that is complete
    paired = replace(PAPER, adversarial="relativistic", lipschitz="zero_centered", adversarial_ratio=2.0, penalty_interval=2)
    train(settings(records, tmp_path, phases=rules, losses=paired, max_epochs=2, discriminator_learning_rate=1e-3))
    rows = table(tmp_path)
    ends = [(row["phase"], row["ended"]) for row in rows if row["ended"]]
    assert ends[:4] == [("d", "won"), ("g", "gave_up"), ("d", "won"), ("g", "gave_up")]
    for row in rows:
        assert bool(row["accuracy_d0_g0"]) == bool(row["accuracy_d0_source"]) == bool(row["ended"])
        assert not row["ended"] or float(row["accuracy_d0_g0"]) in (0, 0.25, 0.5, 0.75, 1)
        assert bool(row["adversarial_weight"]) == (row["phase"] == "g")
    penalized = [bool(row["penalty"]) for row in rows if row["phase"] == "d"]
    assert penalized == [n % 2 == 0 for n in range(len(penalized))]


def test_max_steps(records, tmp_path):
    """Training ends after so many steps of G."""
    train(settings(records, tmp_path, max_steps=3, max_epochs=50))
    with (tmp_path / "history.csv").open() as file:
        assert [line["phase"] for line in csv.DictReader(file)].count("g") == 3


def test_half_precision_with_a_scaled_loss(records, tmp_path):
    """In float16 G moves as in float32 but for rounding, also where float16 has no gradients so small: the loss is scaled."""
    moved, tiny = {}, replace(PAPER, l1_weight=1e-3, latent_weight=0.0)  # 8e-9 a pixel, and the smallest float16 is 6e-8
    for precision in ("float32", "float16"):
        small = {
            "precision": precision,
            "method": "unet",
            "generator": replace(PLAIN, base_filters=2, upsampling="transposed", full_resolution=False),
            "learning_rate": 1e-3,
            "losses": tiny,
        }
        train(settings(records, tmp_path / precision, **small))
        moved[precision] = np.concatenate([w.ravel() for w in weights(tmp_path / precision)])
    apart = np.abs(moved["float32"] - moved["float16"]).max()
    assert 0 < apart < 1e-4  # four steps of Adam move a weight by about 4e-3


def test_a_run_that_never_beats_its_start_leaves_its_start(records, tmp_path):
    """A residual G starts as the identity; if every version is worse than that, the identity is the model."""
    train(settings(records, tmp_path, generator=RESIDUAL, method="unet", learning_rate=1.0, max_steps=3))
    first, *versions = (float(row["error"]) for row in table(tmp_path, "validation"))
    assert min(versions) > first
    patches = np.random.default_rng(0).uniform(-1000, 1400, (1, 256, 256)).astype(np.float32)
    made, _ = load_synthesizer(tmp_path, "float32")(patches)
    np.testing.assert_allclose(made, patches, atol=0.01)
    assert read_config(tmp_path).qc_threshold == 0
    assert counters(tmp_path)["best_version"] == 0


def test_a_version_that_beats_the_start_is_the_model(records, tmp_path):
    """With a sensible learning rate a residual G improves on what it is given."""
    train(settings(records, tmp_path, generator=RESIDUAL, use_front_end=False, method="unet", learning_rate=1e-3, max_epochs=3))
    first, *versions = (float(row["error"]) for row in table(tmp_path, "validation"))
    assert counters(tmp_path)["best_version"] == 1 + int(np.argmin(versions)) > 0
    assert min(versions) < first
