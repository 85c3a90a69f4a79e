"""The training loop: phases, resumed runs, versions, and what a run says, on networks of one level each."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from runs import PAPER, PLAIN, RULES, assert_same_run, counters, settings, table, weights, without

from stan_ct.ct.filters import FrontEnd
from stan_ct.models.folder import read_config
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.reconstruction.synthesis import load_synthesizer
from stan_ct.training import checkpoints, trainer
from stan_ct.training.quality import QUALITY, Quality
from stan_ct.training.resume import lost_model
from stan_ct.training.stopping import Stopped
from stan_ct.training.trainer import train

pytestmark = pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")
RESIDUAL = replace(PLAIN, residual=True)


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


TRIES = replace(RULES, max_rollbacks=1)


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """A run of two epochs: D 2 + 2 steps (two tries), G 3 + 3, D 2 + 2, and 2 of G, within whose phase it ends."""
    output = tmp_path_factory.mktemp("whole")
    train(settings(records, output, phases=TRIES, max_epochs=2))
    return output


class Killed(BaseException):
    """The process is gone: nothing is caught or written any more."""


@pytest.mark.slow  # within a try and between phases: test_resume_from_an_older_checkpoint, test_told_to_stop
@pytest.mark.parametrize("at", [1, 2, 4, 5, 7, 10, 15])
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


ALONE = {"method": "unet", "phases": replace(RULES, g_phase_steps=1)}
"""A version after every step, of a G without opponents."""


@pytest.fixture(scope="module")
def two_versions(records, tmp_path_factory):
    """A run that ends after two versions."""
    output = tmp_path_factory.mktemp("two")
    train(settings(records, output, **ALONE, max_steps=2, max_epochs=50), scripted(9.0, 5.0, 3.0))
    return output


def test_max_steps(two_versions):
    """Training ends after so many steps of G, whatever the epochs."""
    assert [row["step"] for row in table(two_versions)] == ["1", "2"]


@pytest.mark.usefixtures("equal_quality")
def test_best_version(records, two_versions, tmp_path):
    """The best stays in the folder, though later versions follow, and of equals the first."""
    train(settings(records, tmp_path, **ALONE), scripted(9.0, 5.0, 3.0, 4.0, 3.0))
    assert [row["error"] for row in table(tmp_path, "validation")] == ["9", "5", "3", "4", "3"]
    assert equal(weights(tmp_path), weights(two_versions))
    kept = counters(tmp_path)
    assert (kept["best"], kept["best_version"]) == (pytest.approx((3.005 / 9.005 + 1) / 2), 2)


@pytest.mark.usefixtures("equal_quality")
def test_best_survives_the_end_of_the_run(records, tmp_path, monkeypatch):
    """The best of a run that dies is in the folder; the resumed run remembers it, and a worse one does not replace it."""
    step = trainer._Run._one_step

    def dying(run, stream):
        if run.position == 1:
            raise Killed
        step(run, stream)

    same = settings(records, tmp_path, **ALONE, checkpoint_minutes=0)
    monkeypatch.setattr(trainer._Run, "_one_step", dying)
    with pytest.raises(Killed):
        train(same, scripted(9.0, 5.0))
    best = weights(tmp_path)
    monkeypatch.undo()
    train(same, scripted(9.0, 6.0, 7.0, 8.0))
    assert [row["error"] for row in table(tmp_path, "validation")] == ["9", "5", "6", "7", "8"]
    assert equal(weights(tmp_path), best)


@pytest.mark.usefixtures("equal_quality")
def test_undefined_errors(records, two_versions, tmp_path):
    """A version whose error is undefined is saved only where there is none yet, and any other replaces it."""
    train(settings(records, tmp_path, **ALONE, max_steps=1), scripted(9.0, np.nan))
    first = weights(tmp_path)
    train(settings(records, tmp_path, **ALONE), scripted(9.0, 5.0, np.nan, 6.0))
    assert [row["error"] for row in table(tmp_path, "validation")] == ["9", "inf", "5", "inf", "6"]
    assert not equal(weights(tmp_path), first)
    assert equal(weights(tmp_path), weights(two_versions))


def test_minutes_are_counted_over_resumes(records, tmp_path):
    """max_minutes is of all runs together: once used up, a resumed run makes no step; a longer one goes on."""
    train(settings(records, tmp_path, method="unet", max_minutes=1e-9))
    spent = counters(tmp_path)["seconds"]
    assert (counters(tmp_path)["position"], spent > 0) == (1, True)
    assert [row["version"] for row in table(tmp_path, "validation")] == ["0", "1"]  # a model was left all the same
    train(settings(records, tmp_path, method="unet", max_minutes=spent / 61))
    assert (counters(tmp_path)["position"], counters(tmp_path)["seconds"]) == (1, spent)
    train(settings(records, tmp_path, method="unet", max_minutes=spent / 60 + 1e-9))
    assert counters(tmp_path)["position"] == 2
    assert counters(tmp_path)["seconds"] > spent


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
