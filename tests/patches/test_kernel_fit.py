"""A kernel fitted to a pair of series: when the fit is taken, and when its numbers are extrapolated."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage
from synthetic import write_ct

from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.kernels import KERNELS, read_kernels, write_kernels
from stan_ct.dicom.find import find_series
from stan_ct.dicom.refusal import Refused
from stan_ct.patches.kernel_fit import WORST_FIT, KernelFit, _spread_slices, fit_kernel_to_series
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series
from stan_ct.patches.where import parse_conditions
from stan_ct.simulation.refilter import kernel_ratio

FREQUENCY = np.linspace(0, 7, 96)
KNOWN, OTHER = KERNELS["BL64"], KERNELS["BR40"]
RATIO = OTHER.mtf(FREQUENCY) / KNOWN.mtf(FREQUENCY)


def fit(gain):
    """BR40 as the fit of a measured ratio."""
    return KernelFit(OTHER, KNOWN, RadialFilter(tuple(FREQUENCY.tolist()), tuple(gain.tolist())), 3)


def test_a_ratio_that_is_met():
    """The ratio of the two curves leaves no error; one that lies 0.05 beside it everywhere an error of 0.05."""
    assert fit(RATIO).error == pytest.approx(0, abs=1e-12)
    assert fit(RATIO + 0.05).error == pytest.approx(0.05)


def test_the_last_fifth_does_not_count():
    """There the ratio is aliased: whatever was measured, the error stays 0."""
    assert fit(np.where(FREQUENCY > 0.8 * 7, RATIO + 0.2, RATIO)).error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("factor", "acceptable"), [(0.99, True), (1.01, False)])
def test_limit_of_the_error(factor, acceptable):
    """An error 1 % below a tenth of the highest ratio is acceptable, one 1 % above it is not."""
    offset = WORST_FIT * factor / (1 - WORST_FIT * factor)  # of a ratio whose highest value is 1 + offset
    assert max(RATIO) == pytest.approx(1)
    assert fit(RATIO + offset).acceptable is acceptable
    assert WORST_FIT == 0.1


@pytest.mark.parametrize(("f50", "extrapolated"), [(6.99, False), (7.01, True)])
def test_beyond_nyquist(f50, extrapolated):
    """An f50 beyond the last frequency of the series, 7 lp/cm, is extrapolated."""
    assert replace(fit(RATIO), kernel=replace(OTHER, f50=f50, f10=1.4 * f50)).extrapolated is extrapolated


def test_kernels_there_and_back(tmp_path):
    """What is written is read again, number for number."""
    write_kernels(tmp_path / "kernels.json", KERNELS)
    assert read_kernels(tmp_path / "kernels.json") == KERNELS
    assert [path.name for path in tmp_path.iterdir()] == ["kernels.json"]


@pytest.fixture
def pair(tmp_path):
    """Two series of one scan, BL64 and BR40: their folder, and the files of each."""
    rng = np.random.default_rng(0)
    sharp = ndimage.gaussian_filter(rng.normal(0, 300, (6, 128, 128)), (0, 0.5, 0.5))
    ratio = kernel_ratio(KNOWN, OTHER, 1.0)
    soft = np.stack([ratio(image, (0.7, 0.7)) for image in sharp])
    volumes = {"BL64": (1, sharp), "BR40": (2, soft)}
    return tmp_path, {
        k: write_ct(tmp_path / k, np.rint(hu).astype(int) + 1024, kernel=k, series=n) for k, (n, hu) in volumes.items()
    }


def overflow(path):
    """Gives a slice a value that Bits Stored cannot hold."""
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 12, 11
    pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
    pixels[0] = 60000
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)


@pytest.mark.parametrize("kernel", ["BL64", "BR40"])
@pytest.mark.parametrize("number", [0, 3])
def test_a_refused_slice_leaves_the_others_paired(pair, kernel, number):
    """One slice cannot be read: it is named, and the other five are compared with the slices in their own places."""
    folder, paths = pair
    whole = fit_kernel_to_series(find_series(folder).series, KNOWN, "BR40")
    assert (whole.num_slices, whole.refusals) == (6, ())
    overflow(paths[kernel][number])
    found = fit_kernel_to_series(find_series(folder).series, KNOWN, "BR40")
    assert found.num_slices == 5
    assert [(r.reason, r.paths) for r in found.refusals] == [("stored_value_overflow", (paths[kernel][number],))]
    slices, _ = _spread_slices(pair_series(find_series(folder).series, PairingRule(("BL64",), "BR40")))
    correlations = [np.corrcoef(source.ravel(), target.ravel())[0, 1] for source, target, _ in slices]
    assert min(correlations) > 0.5  # slices of other places correlate by less than 0.05
    assert found.kernel.f50 == pytest.approx(whole.kernel.f50, rel=0.02)


@pytest.mark.parametrize(("text", "fits"), [("Exposure=", True), ("Exposure>1", False)])
def test_conditions_on_headers(pair, text, fits):
    """Series are chosen by header fields too."""
    where, series = parse_conditions([text]), find_series(pair[0]).series
    if fits:
        assert fit_kernel_to_series(series, KNOWN, "BR40", source_where=where).num_slices
    else:
        with pytest.raises(PairingError, match="'BR40' where Exposure>1"):
            fit_kernel_to_series(series, KNOWN, "BR40", target_where=where)


def test_a_series_without_a_readable_slice(pair):
    """A pair is left out if nothing of it can be read; if that was the only one, the first file is named."""
    folder, paths = pair
    for path in paths["BR40"]:
        overflow(path)
    with pytest.raises(Refused, match="stored_value_overflow") as error:
        fit_kernel_to_series(find_series(folder).series, KNOWN, "BR40")
    assert str(paths["BR40"][0]) in str(error.value)
