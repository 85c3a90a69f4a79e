"""Slices under way several at a time."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from synthesizers import Scripted, scripted_model
from synthetic import write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction.fidelity import FITTED, fitted_slices, measure_fidelity
from stan_ct.reconstruction.panels import shown_slices


@pytest.fixture
def series(tmp_path):
    """20 slices of noise, more than are fitted."""
    write_ct(tmp_path, np.random.default_rng(0).normal(1064, 60, (20, 64, 64)).astype(int))
    return load_series(find_series(tmp_path).series[0])


class Meeting(Scripted):
    """Sharpens a little, rejects some patches, and waits in `prepare` until others do, for as long as there are others."""

    def __init__(self, number):
        super().__init__(lambda p: 0.1 * p, lambda p: p[:, 0, 0] > 0)
        self.barrier, self.calls = threading.Barrier(number), itertools.count()

    def prepare(self, hu, pixel_spacing, kernel=""):
        if next(self.calls) < 4:
            self.barrier.wait(timeout=60)
        return hu


def test_the_result_does_not_depend_on_how_many_are_under_way(series):
    """Pixels, checks, lattice, comparison and order are those of one at a time, bit for bit, also of a random layout."""
    results = []
    for number in (1, 4):
        done = []
        model = replace(scripted_model(Meeting(number), patch_layout="random"), slices_at_once=number)
        results.append(model.standardize(series, progress=lambda slices, done=done: (done.append(z) or z for z in slices)))
        assert done == list(range(20))
    one, four = results
    np.testing.assert_array_equal(four.volume, one.volume)
    assert four.findings == one.findings
    assert [s.rejected for s in four.slices] == [s.rejected for s in one.slices]
    assert any(s.rejected for s in one.slices)
    assert four.lattice.ratios == one.lattice.ratios
    assert four.fidelity.tissues == one.fidelity.tissues
    assert sorted(four.fidelity.residuals) == shown_slices(20)


def test_the_comparison_under_way_is_that_of_the_whole(series):
    """It equals what is measured when all slices are there."""
    result = scripted_model(Scripted(lambda p: 0.1 * p)).standardize(series)
    whole = measure_fidelity(series, result.volume)
    for name in ("tissues", "structure", "strongest", "explained"):
        assert getattr(result.fidelity, name) == getattr(whole, name)
    assert result.fidelity.structure > 0


def test_fitted_slices():
    """All of a short series, the first and the last of a long one, and those evenly between."""
    assert fitted_slices(3) == [0, 1, 2]
    assert fitted_slices(100)[:2] + fitted_slices(100)[-1:] == [0, 9, 99]
    assert len(fitted_slices(100)) == FITTED


@pytest.mark.parametrize("number", [1, 3])
def test_an_error_of_a_slice_ends_the_series(series, number):
    """Wherever it comes up, it comes out; no thread stays."""

    def fail(patches):
        raise ArithmeticError("no such patch")

    model = replace(scripted_model(Scripted(fail)), slices_at_once=number)
    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="no such patch"):
        model.standardize(series)
    assert threading.active_count() == before
