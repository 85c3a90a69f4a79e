"""Slices beside a slice: where a series ends or has a gap, the last one is repeated."""

import numpy as np
import pytest

from stan_ct.dicom.plausibility import GAP
from stan_ct.patches.adjacent import adjacent_slices, image_names, offsets


def test_ends_are_repeated():
    """One slice on either side, then two; a single slice stands for all."""
    assert adjacent_slices([0.0, 3.0, 6.0, 9.0], 1).tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
    assert adjacent_slices([0.0, 3.0, 6.0], 2).tolist() == [[0, 0, 1, 2], [0, 0, 2, 2], [0, 1, 2, 2]]
    assert adjacent_slices([5.0], 2).tolist() == [[0, 0, 0, 0]]
    assert adjacent_slices([0.0, 1.0], 0).shape == (2, 0)


@pytest.mark.parametrize(("factor", "missing"), [(GAP - 0.01, False), (GAP + 0.01, True)])
def test_a_missing_slice_is_a_gap(factor, missing):
    """What lies beyond a gap is no neighbour, nor is what follows it."""
    locations = np.array([0.0, 2, 4, 4 + 2 * factor, 6 + 2 * factor])
    assert adjacent_slices(locations, 2)[2].tolist() == ([0, 1, 2, 2] if missing else [0, 1, 3, 4])


def test_names():
    """Images of a record are named by their offset."""
    assert offsets(2) == [-2, -1, 1, 2]
    assert image_names(1) == ["adjacent-1", "adjacent+1"]
    assert image_names(0) == []
