"""Classical baselines from model folders."""

import sys

import numpy as np
import pytest

from stan_ct.baselines.loading import load_baseline
from stan_ct.ct.filters import FrontEnd, RadialFilter
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.reconstruction.loading import load_model

HALVED = FrontEnd({"B": RadialFilter(frequency=(0.0, 1.0, 2.0), gain=(1.0, 0.5, 0.5))})


def test_baselines_need_no_tensorflow(tmp_path, monkeypatch):
    """A model that only filters is loaded and used where the networks cannot be imported."""
    monkeypatch.setitem(sys.modules, "stan_ct.reconstruction.synthesis", None)
    save_model(tmp_path, ModelConfig("filter", "kernel_filter", "B", "L", False, front_end=HALVED))
    hu = np.random.default_rng(0).normal(40, 20, (32, 32)).astype(np.float32)
    filtered = load_model(tmp_path, precision="float32").synthesizer.prepare(hu, (0.7, 0.7), "B")
    np.testing.assert_array_equal(filtered, HALVED(hu, (0.7, 0.7), "B"))
    assert filtered.std() < 0.8 * hu.std()


def test_a_network_is_no_baseline_and_a_filter_needs_one(tmp_path):
    """None for a network; a filter model without a filter says so."""
    save_model(tmp_path / "network", ModelConfig("network", "unet", "B", "L", False))
    assert load_baseline(tmp_path / "network") is None
    save_model(tmp_path / "empty", ModelConfig("empty", "kernel_filter", "B", "L", False))
    with pytest.raises(ValueError, match="must have a front_end"):
        load_baseline(tmp_path / "empty")
