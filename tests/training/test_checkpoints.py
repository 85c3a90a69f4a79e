"""What comes back from a checkpoint is what went in, bit for bit; a run killed at any moment leaves one that is whole."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.errors import UsageError
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.networks.discriminator import build_discriminator
from stan_ct.networks.generator import build_generator
from stan_ct.training import checkpoints
from stan_ct.training.checkpoints import Players, put, read_counters, restore, save, take, variables_of
from stan_ct.training.competition import Competition

pytestmark = pytest.mark.usefixtures("shallow_networks")
COUNTERS = {"step": 3, "referee": {"active": [0, 1]}, "best": float("inf")}


def competition(seed, filters=1, number=2):
    """Two batch-normalized Gs against two spectrally normalized Ds, after a step of each, which fills all slots."""
    keras.utils.set_random_seed(seed)
    generators = [
        build_generator(GeneratorConfig(base_filters=filters, normalization="batch", residual=False), initialization="he")
        for _ in range(number)
    ]
    discriminators = [
        build_discriminator(DiscriminatorConfig(base_filters=filters, spectral=True), initialization="he")
        for _ in range(number)
    ]
    model = Competition(generators, discriminators)
    model.compile(LossSettings())
    rng = np.random.default_rng(seed)
    batch = [tf.constant(rng.uniform(-1, 1, (1, 256, 256, 1)), tf.float32) for _ in "ab"]
    model.d_step(*batch, range(number))
    model.g_step(*batch, range(number))
    return model


@pytest.fixture(scope="module")
def one():
    return competition(1)


@pytest.fixture(scope="module")
def second():
    model = competition(2)
    return model, states(model)


@pytest.fixture
def other(second):
    """Another competition, which starts every test in the same state."""
    model, start = second
    for name, variables in Players(model).all().items():
        put(variables, start[name])
    return model


def states(model):
    return {name: take(variables) for name, variables in Players(model).all().items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, state in first.items():
        for a, b in zip(state, second[name], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def differ(first, second):
    """Arrays, by copy, that are not equal."""
    return sum(not np.array_equal(a, b) for name in first for a, b in zip(first[name], second[name], strict=True))


def test_round_trip(one, other, tmp_path):
    """Weights, moving averages, spectral vectors, Adam's moments and iterations, snapshots and counters come back exactly."""
    snapshots = {"start-0": states(one)["d0"], "best-1": [np.float32(0.1), np.arange(3)]}
    save(tmp_path / "last", Players(one), snapshots, COUNTERS)
    assert differ(states(one), states(other)) > 100
    back = restore(tmp_path / "last", Players(other))
    assert_equal(states(one), states(other))
    assert_equal(snapshots, back)
    assert read_counters(tmp_path / "last") == COUNTERS
    paths = {variable.path for name in Players(one).all() for variable in Players(one).all()[name]}
    for part in ("moving_mean", "vector_u", "momentum", "velocity", "iteration", "kernel"):
        assert any(part in path for path in paths)


def test_next_step_is_equal(one, other, tmp_path):
    """After it is restored, the next steps do to the other what they do to the first."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    restore(tmp_path / "last", Players(other))
    batch = [tf.ones((1, 256, 256, 1)) * value for value in (0.1, -0.2)]
    for model in (one, other):
        model.d_step(*batch, (1,))
        model.g_step(*batch, (0,))
    assert_equal(states(one), states(other))


def test_a_state_is_a_copy(one):
    """What was taken does not change when training goes on, and put gives it back."""
    variables = variables_of(one.generators[0], one.g_optimizers[0])
    before = take(variables)
    kept = [value.copy() for value in before]
    one.g_step(tf.zeros((1, 256, 256, 1)), tf.ones((1, 256, 256, 1)), (0,))
    assert_equal({"": kept}, {"": before})
    assert differ({"": take(variables)}, {"": before}) > 40
    put(variables, before)
    assert_equal({"": take(variables)}, {"": before})


def test_no_checkpoint(tmp_path):
    """A folder without a checkpoint has no counters; one that was never completed is none."""
    assert read_counters(tmp_path / "last") is None
    (tmp_path / "last.partial").mkdir()
    (tmp_path / "last.partial/counters.json").write_text("{")
    assert read_counters(tmp_path / "last") is None


def test_killed_between_renames(one, other, tmp_path):
    """Killed after the old checkpoint was moved away and before the new one was in its place: the old one counts."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    (tmp_path / "last").rename(tmp_path / "last.old")
    (tmp_path / "last.partial").mkdir()
    assert read_counters(tmp_path / "last") == COUNTERS
    restore(tmp_path / "last", Players(other))
    assert_equal(states(one), states(other))
    save(tmp_path / "last", Players(one), {}, {"step": 4})
    assert read_counters(tmp_path / "last") == {"step": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("calls", range(6))
def test_killed_while_writing(one, tmp_path, monkeypatch, calls):
    """Whichever file is being written when the run dies, the last checkpoint stays; the next one replaces it all the same."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    written, savez = [], np.savez

    def dying(path, *arrays):
        if len(written) == calls:
            raise OSError("no space left on device")
        written.append(path)
        savez(path, *arrays)

    monkeypatch.setattr(checkpoints.np, "savez", dying)
    with pytest.raises(OSError, match="no space") if calls < 5 else pytest.raises(TypeError):
        save(tmp_path / "last", Players(one), {"start-0": [np.zeros(2)]}, {"not": {"json"}})
    assert read_counters(tmp_path / "last") == COUNTERS
    assert not list((tmp_path / "last").glob("snapshot-*"))
    monkeypatch.undo()
    save(tmp_path / "last", Players(one), {}, {"step": 4})
    assert read_counters(tmp_path / "last") == {"step": 4}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights_are_not_kept(other, tmp_path, value):
    """A weight that is not finite is no checkpoint: the last one stays as it was."""
    save(tmp_path / "last", Players(other), {}, COUNTERS)
    bias = other.discriminators[1].weights[1]
    bias.assign(np.full(bias.shape, value, np.float32))
    with pytest.raises(ValueError, match=r"weights of d1 are not finite: the last checkpoint is left as it was"):
        save(tmp_path / "last", Players(other), {}, {"step": 4})
    assert read_counters(tmp_path / "last") == COUNTERS
    restore(tmp_path / "last", Players(other))
    assert np.isfinite(bias.numpy()).all()


def test_other_networks_are_refused(one, tmp_path):
    """A checkpoint of other networks is refused, not poured into whatever fits."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    with pytest.raises(ValueError, match="it is of other networks"):
        restore(tmp_path / "last", Players(competition(1, filters=2, number=1)))
    variables = variables_of(one.generators[0], one.g_optimizers[0])
    with pytest.raises(ValueError, match=rf"a state of 1 arrays does not fit {len(variables)} variables: it is of other"):
        put(variables, [np.zeros(1)])


def test_missing_copy(one, tmp_path):
    """A checkpoint that lacks a copy is named."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    (tmp_path / "last/player-g1.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"player-g1\.npz"):
        restore(tmp_path / "last", Players(one))


def test_counters_are_json(one, tmp_path):
    """Counters lie beside the arrays, to be read by a person."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    assert json.loads((tmp_path / "last/counters.json").read_text()) == COUNTERS
    assert sorted(p.name for p in (tmp_path / "last").iterdir()) == [
        "counters.json",
        *(f"player-{name}.npz" for name in ("d0", "d1", "g0", "g1")),
    ]


@pytest.mark.parametrize("name", ["player-d1.npz", "player-g0.npz", "snapshot-d0.npz"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-30], lambda data: data[:400] + b"\x7f" + data[401:]])
def test_damaged_states_are_refused(one, other, tmp_path, name, damage):
    """An archive that was emptied, cut off or changed is named, with the ways on."""
    save(tmp_path / "last", Players(one), {"d0": states(one)["d0"]}, COUNTERS)
    path = tmp_path / "last" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=rf"checkpoint file .*{name} is damaged .*choose another --output_dir, or remove"):
        restore(tmp_path / "last", Players(other))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10**5])
def test_damaged_counters_are_refused(one, tmp_path, content):
    """So are counters that are no JSON object."""
    save(tmp_path / "last", Players(one), {}, COUNTERS)
    (tmp_path / "last/counters.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"checkpoint file .*counters\.json is damaged"):
        read_counters(tmp_path / "last")
