"""Histogram matching: what comes out has the standard protocol's distribution, in the source's order."""

import numpy as np
import pytest

from stan_ct.baselines.histogram import HistogramMatching
from stan_ct.ct.hounsfield import quantiles


def test_output_has_the_target_distribution():
    """Mean, spread and ends are the target's, whatever the source's were."""
    rng = np.random.default_rng(0)
    target, source = rng.normal(-500, 120, (4, 64, 64)), rng.normal(100, 30, (64, 64)).astype(np.float32)
    matched = HistogramMatching(quantiles(target)).prepare(source, (0.7, 0.7))
    assert matched.dtype == np.float32
    assert matched.mean() == pytest.approx(-500, abs=4)
    assert matched.std() == pytest.approx(120, rel=0.03)
    assert np.all(np.diff(matched.ravel()[np.argsort(source.ravel())]) >= 0)  # brighter stays brighter


def test_a_slice_of_the_protocol_stays_nearly_what_it_is():
    """Matched to its own histogram, a slice keeps its values to within the step of the quantiles."""
    image = np.random.default_rng(1).normal(0, 50, (128, 128)).astype(np.float32)
    matched = HistogramMatching(quantiles([image])).prepare(image, (1, 1))
    inner = np.abs(image) < 100
    assert np.abs(matched - image)[inner].max() < 2


def test_quantiles_by_hand():
    """Two quantiles of 0, 1, 2, 3 are its quarter and three-quarter points, over all patches together."""
    assert quantiles([np.array([[0.0, 1.0]]), np.array([[2.0], [3.0]])], 2) == (0.75, 2.25)


def test_patches_are_left_alone():
    """Patches come back as they went in, and all count as real; so do pixels beyond the soft tissue."""
    matching = HistogramMatching((-1024.0, 0.0, 100.0))
    patches = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    out, judged = matching(patches)
    assert np.array_equal(out, patches)
    assert judged.tolist() == [1, 1]
    assert matching.prepare(np.array([[-3000.0, 1200.0], [50.0, 90.0]]), (1, 1))[0].tolist() == [-3000, 1200]
