"""The pipeline's seam to networks."""

from dataclasses import replace

import numpy as np
import pytest

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.models.judge import THRESHOLD, Judge
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig
from stan_ct.patches.sampling import Patch
from stan_ct.reconstruction.loading import load_model
from stan_ct.reconstruction.synthesis import load_synthesizer

pytestmark = pytest.mark.usefixtures("unoptimized_graphs", "shallow_networks")


def test_what_the_window_does_not_hold_passes_by(tmp_path):
    """A residual G starts as the identity: bone and metal above 1500 HU come back too, not clipped; air is -1024 at least."""
    config = ModelConfig("identity", "unet", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=1))
    save_model(tmp_path, config, config.build_generator())
    patches = np.random.default_rng(0).uniform(-1100, 3071, (2, 256, 256)).astype(np.float32)
    made, p_real = load_synthesizer(tmp_path, "float32")(patches)
    np.testing.assert_allclose(made, np.maximum(patches, -1024), atol=0.01)
    assert p_real.tolist() == [1, 1]


def test_the_judge_of_a_model_judges_its_patches(tmp_path):
    """Where the folder holds a judge, P(real) is its plausibility of output and source, and no discriminator is needed."""
    rng = np.random.default_rng(0)
    sources = rng.normal(0, 40, (60, 256, 256)) * rng.uniform(0.8, 1.2, (60, 1, 1))
    window = HUWindow(-1024.0, 1500.0)
    kept = Judge.fit(sources, [window.to_hu(window.to_network(sources.astype(np.float32)))])  # rounded as by the model
    changed = Judge.fit(sources, [1.2 * sources])
    patches = (rng.normal(0, 40, (3, 256, 256)) * 1.1).astype(np.float32)
    config = ModelConfig("identity", "stan_ct", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=1))
    for judge, expected in ((kept, True), (changed, False)):
        save_model(tmp_path, config, config.build_generator(), judge=judge)
        made, plausible = load_synthesizer(tmp_path, "float32")(patches)
        np.testing.assert_allclose(plausible, judge(patches, made))
        assert ((plausible >= THRESHOLD) == expected).all()
        loaded = load_model(tmp_path, precision="float32").synthesizer
        assert loaded.explain(patches, made) == judge.explain(patches, made)
    assert all("too low" in reason for reason in loaded.explain(patches, made))


@pytest.mark.parametrize("judged", [True, False])
def test_a_slice_at_once_is_judged_place_by_place(tmp_path, judged):
    """By a judge, as it judges patches; by a discriminator, which sees the slice as a whole, everywhere alike."""
    rng = np.random.default_rng(0)
    sources = rng.normal(0, 40, (60, 256, 256)) * rng.uniform(0.8, 1.2, (60, 1, 1))
    judge = Judge.fit(sources, [sources])
    image = rng.normal(0, 40, (512, 512)).astype(np.float32)
    config = ModelConfig("identity", "stan_ct", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=1))
    config = replace(config, discriminator=DiscriminatorConfig(1))
    save_model(tmp_path, config, config.build_generator(), config.build_discriminator(), judge=judge if judged else None)
    synthesizer = load_model(tmp_path, precision="float32").synthesizer
    places = [Patch(0, 0, 256, 256), Patch(128, 0, 256, 256), Patch(256, 256, 256, 256)]
    made, p_real = synthesizer.whole(image, places)
    np.testing.assert_allclose(made, image, atol=0.01)  # G starts as the identity
    if judged:
        cut = (np.stack([one[p.window] for p in places]) for one in (image, made))
        np.testing.assert_array_equal(p_real, judge(*cut))
        assert len(set(p_real.tolist())) == 3
    else:
        np.testing.assert_array_equal(p_real, np.repeat(synthesizer(image[None])[1], 3))


def test_a_model_without_a_judge_explains_nothing(tmp_path):
    """Neither one that a discriminator judges nor a filter."""
    patches = np.zeros((2, 256, 256), np.float32)
    config = ModelConfig("identity", "unet", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=1))
    save_model(tmp_path, config, config.build_generator())
    assert load_model(tmp_path, precision="float32").synthesizer.explain(patches, patches) == ["", ""]
    save_model(tmp_path / "histogram", ModelConfig("h", "histogram", "SOFT", "SHARP", True, histogram=(0.0, 1.0)))
    assert load_model(tmp_path / "histogram").synthesizer.explain(patches, patches) == ["", ""]


def test_adjacent_slices_are_channels(tmp_path):
    """G sees the slices beside each; what comes back, and is judged, is the slice; other numbers are refused."""
    generator = GeneratorConfig(base_filters=1, adjacent_slices=1)
    config = ModelConfig("identity", "stan_ct", "SOFT", "SHARP", True, generator=generator)
    config = replace(config, discriminator=DiscriminatorConfig(1, conditional=True))
    save_model(tmp_path, config, config.build_generator(), config.build_discriminator())
    patches = np.random.default_rng(0).uniform(-1024, 1400, (2, 256, 256, 3)).astype(np.float32)
    synthesizer = load_synthesizer(tmp_path, "float32")
    made, p_real = synthesizer(patches)
    np.testing.assert_allclose(made, patches[..., 0], atol=0.01)
    assert p_real.shape == (2,)
    with pytest.raises(ValueError, match="the model sees 3 slices at once, not 1"):
        synthesizer(patches[..., 0])
    model = load_model(tmp_path)
    assert model.synthesizer.adjacent_slices == 1


def test_shared_networks_take_few_patches_at_once(tmp_path):
    """Two by two, and what comes back is, to rounding, what comes back of all together."""
    config = ModelConfig("m", "stan_ct", "SOFT", "SHARP", True, generator=GeneratorConfig(base_filters=2))
    config = replace(config, discriminator=DiscriminatorConfig(1))
    save_model(tmp_path, config, config.build_generator(), config.build_discriminator())
    patches = np.random.default_rng(0).uniform(-1024, 1400, (5, 256, 256)).astype(np.float32)
    sizes, found = [], []
    for shared in (True, False):
        synthesizer = load_synthesizer(tmp_path, "float32", shared=shared)
        run = synthesizer.engine._run
        synthesizer.engine._run = lambda gray, run=run: sizes.append(len(gray)) or run(gray)
        found.append(synthesizer(patches))
    assert sizes == [2, 2, 1, 5]
    for one, all_ in zip(*found, strict=True):
        np.testing.assert_allclose(one, all_, rtol=1e-4, atol=0.01)
    np.testing.assert_allclose(found[0][0], patches, atol=0.01)  # G starts as the identity: each is where it was
