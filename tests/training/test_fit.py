"""`model.fit` with the referee as a callback trains as the trainer does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
from stan_ct.patches.dataset import read_index
from stan_ct.training.models import competition
from stan_ct.training.phases import PhaseRules
from stan_ct.training.referee import PhaseReferee
from stan_ct.training.settings import TrainSettings
from stan_ct.training.stream import Stream
from stan_ct.training.trainer import train

pytestmark = pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")


@pytest.mark.parametrize("opponents", ["population", pytest.param("history", marks=pytest.mark.slow)])
def test_fit_gives_the_weights_of_the_trainer(records, tmp_path, opponents):
    """On one process `fit` on the trainer's batches ends with the trainer's weights and optimizer slots, bit for bit.

    Phases are lost, rolled back, restored and switched on the way.
    """
    rules = PhaseRules(2, opponents, d_phase_steps=1, g_phase_steps=2, max_rollbacks=1, averaging_batches=1)
    settings = TrainSettings(
        str(records),
        str(tmp_path),
        batch_size=2,
        max_epochs=2,
        generator=GeneratorConfig(base_filters=1, normalization="batch", full_resolution=False),
        discriminator=DiscriminatorConfig(spectral=True),
        phases=rules,
        losses=LossSettings(texture_weight=0.0),
        ema=0.0,
        precision="float32",
    )
    train(settings)
    keras.utils.set_random_seed(settings.seed)
    model = competition(settings, settings.config(read_index(records)))
    stream = Stream(tf.distribute.get_strategy(), records, settings.hu_window, 2, settings.seed, filtered=True)
    counted = len((tmp_path / "history.csv").read_text().splitlines()) - 1
    batches = tf.data.Dataset.from_tensor_slices(
        tuple(map(tf.stack, zip(*(next(stream) for _ in range(counted)), strict=True)))
    )
    referee = PhaseReferee(rules)
    history = model.fit(batches, shuffle=False, callbacks=[referee], verbose=0)
    assert counted > 10
    assert referee.referee.phases > 2
    assert {"l1", "p_real_synthesized_d0_g0"} <= history.history.keys() or "total_d" in history.history
    for name, variables in referee.players.all().items():
        with np.load(tmp_path / f"checkpoints/last/player-{name}.npz") as stored:
            for number, variable in enumerate(variables):
                np.testing.assert_array_equal(variable.numpy(), stored[f"arr_{number}"], err_msg=f"{name} {variable.path}")


def test_predict_standardizes_with_the_first_generator(records):
    """A competition is called as its first generator."""
    settings = TrainSettings(str(records), "", generator=GeneratorConfig(base_filters=1), precision="float32")
    model = competition(settings, settings.config(read_index(records)))
    patches = np.random.default_rng(0).uniform(-1, 1, (2, 256, 256, 1)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(patches, verbose=0), patches)  # residual, so it starts as the identity
