"""Eq. 8, its summary, and the patches it is measured on."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from stan_ct.evaluation import metrics
from stan_ct.evaluation.metrics import Settings, patch_grid, relative_error, summarize

NOWHERE = Path("nowhere")


def settings(**changes):
    return Settings(NOWHERE, NOWHERE, NOWHERE, **changes)


def test_eq_8_by_hand():
    """|phi(syn) - phi(target)| / |phi(target)|: relative, of the target, of either sign, unbounded above."""
    synthesized, target = [3.0, 1.0, 5.0, -0.1, 0.0], [4.0, 1.0, 1.0, 0.2, 2.0]
    np.testing.assert_allclose(relative_error(synthesized, target), [0.25, 0.0, 4.0, 1.5, 1.0], rtol=1e-15)
    np.testing.assert_allclose(relative_error([-0.3], [-0.2]), [0.5], rtol=1e-15)


def test_zero_target_is_undefined():
    """Where the target's feature is 0 the error is undefined, even if the synthesized one is 0 too; others are untouched."""
    np.testing.assert_array_equal(relative_error([0.0, 7.0, 3.0], [0.0, 0.0, 2.0]), [np.nan, np.nan, 0.5])


def test_summary_counts_the_undefined():
    """Mean and sample standard deviation are those of the defined errors; the others are counted, not dropped silently."""
    summary = summarize(np.array([0.1, np.nan, 0.4, 0.4, np.nan]))
    assert (summary.n, summary.undefined) == (3, 2)
    assert summary.mean == pytest.approx(0.3)
    assert summary.sd == pytest.approx(np.sqrt((0.04 + 0.01 + 0.01) / 2))


def test_summary_of_few():
    """One error has no standard deviation, none has no mean: NaN, without a warning."""
    one, none = summarize(np.array([0.2, np.nan])), summarize(np.array([np.nan]))
    assert (one.mean, one.n, one.undefined) == (0.2, 1, 1)
    assert np.isnan(one.sd)
    assert (none.n, none.undefined) == (0, 1)
    assert np.isnan([none.mean, none.sd]).all()


def corners(shape, **changes):
    return [(rows.start, columns.start) for rows, columns in patch_grid(shape, settings(**changes))]


def test_paper_size_gives_nine_patches():
    """512 x 512 pixels hold 3 x 3 patches of 256 pixels at half a side's distance."""
    assert corners((512, 512)) == [(r, c) for r in (0, 128, 256) for c in (0, 128, 256)]


def test_last_patches_are_moved_back_to_the_border():
    """No pixel is left out where the stride does not divide the slice."""
    assert corners((10, 8), patch_size=4, stride=4) == [(r, c) for r in (0, 4, 6) for c in (0, 4)]


@pytest.mark.parametrize("shape", [(20, 30), (256, 256), (20, 256)])
def test_small_slice_is_one_patch(shape):
    """A slice not larger than a patch is one patch of its own size."""
    ((rows, columns),) = patch_grid(shape, settings())
    assert (rows, columns) == (slice(0, shape[0]), slice(0, shape[1]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patch_size", 1, "patch size must be >= 2 pixels, not 1"),
        ("stride", 0, "stride must be 1 to 256 pixels, the patch size, not 0"),
        ("stride", 257, "stride must be 1 to 256 pixels, the patch size, not 257"),
        ("min_soft_tissue", 1.1, "soft tissue must be in .*, not 1.1"),
        ("min_soft_tissue", float("nan"), "soft tissue must be in .*, not nan"),
    ],
)
def test_senseless_settings_are_refused(name, value, message):
    """A setting out of its range is refused with what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        settings(**{name: value})


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(metrics)
    assert result.attempted >= 1
    assert result.failed == 0
