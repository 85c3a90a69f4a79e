"""A series whose texture is not that of the standard has a finding, whatever made it; one whose texture is has none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from synthesizers import Scripted, scripted_model

from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import SeriesFiles, load_series
from stan_ct.reconstruction.output_checks import output_findings


@pytest.fixture(scope="module")
def pair(real_ct):
    """Every sixth slice of kernels B and L of one chest."""
    found = {}
    for kernel in "BL":
        files = find_series(real_ct / "pair_philips_5mm" / f"kernel_{kernel}").series[0]
        found[kernel] = load_series(SeriesFiles(files.instances[::6], files.grid))
    return found


@pytest.fixture(scope="module")
def standard(pair):
    return Fingerprint.from_series("L", [series_characteristics(pair["L"])])


def filtered(volume: np.ndarray, change) -> np.ndarray:
    return np.stack([change(hu) for hu in volume])


WRONG = {
    "source": lambda pair: pair["B"].volume,
    "blur": lambda pair: filtered(pair["L"].volume, lambda hu: gaussian_filter(hu, 0.6)),
    "white noise": lambda pair: pair["B"].volume + np.random.default_rng(0).normal(0, 40, pair["B"].volume.shape),
    "another kernel": lambda pair: filtered(pair["B"].volume, lambda hu: 3 * hu - 2 * gaussian_filter(hu, 1.0)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_textures_are_found(pair, standard, wrong):
    (found,) = output_findings(pair["B"], WRONG[wrong](pair).astype(np.float32), standard)
    assert found.name == "unlike_standard"
    assert found.value > found.limit
    assert found.detail.endswith("beside those of L")


@pytest.mark.parametrize("dose", [1.0, 1.3])
def test_the_standard_itself_passes_at_any_dose(pair, standard, dose):
    smooth = filtered(pair["L"].volume, lambda hu: gaussian_filter(hu, 3.0))
    assert output_findings(pair["B"], smooth + dose * (pair["L"].volume - smooth), standard) == []


def test_the_model_that_ships_reaches_the_standard(pair):
    import stan_ct

    model = stan_ct.load_model("philips_b_l")
    assert "unlike_standard" not in {found.name for found in model.standardize(pair["B"]).findings}


def test_a_filter_of_another_kernel_is_found(pair):
    """The filter of the model that ships, at half its strength, in one slice."""
    import stan_ct

    model = stan_ct.load_model("philips_b_l")
    first = replace(pair["B"].files, instances=pair["B"].instances[:1])
    volume = filtered(pair["B"].volume[:1], lambda hu: gaussian_filter(hu, 0.7))
    weak = replace(pair["B"], files=first, volume=volume, padding=pair["B"].padding[:1])
    result = model.standardize(weak, allow_out_of_protocol=True)
    assert "unlike_standard" in {found.name for found in result.findings}


def test_the_worse_of_both_spectra_is_named(pair, standard):
    """And what lies exactly at its limit is none."""
    distance = standard.compare(series_characteristics(pair["B"]).spectrum)[1]
    wide = replace(standard, shape=(), spread=distance / 2)
    assert output_findings(pair["B"], pair["B"].volume, wide) == []
    narrow = replace(wide, spread=0.99 * distance / 2)
    assert [found.detail for found in output_findings(pair["B"], pair["B"].volume, narrow)] == ["noise beside those of L"]


def test_nothing_is_judged_without_a_standard(pair):
    assert output_findings(pair["B"], pair["B"].volume, None) == []


def test_edges_and_noise_have_a_limit_of_their_own(pair, standard):
    """Just inside and just outside of it, where the noise alone tells nothing."""
    distance = standard.shape_distance(series_characteristics(pair["B"]).shape)
    unknown = replace(standard, spectrum=(None,) * len(standard.spectrum), shape_spread=1.001 * distance / 2)
    assert output_findings(pair["B"], pair["B"].volume, unknown) == []
    narrow = replace(unknown, shape_spread=0.999 * distance / 2)
    (found,) = output_findings(pair["B"], pair["B"].volume, narrow)
    assert found.detail == "edges and noise beside those of L"


def test_air_has_no_spectrum_and_is_found_by_the_comparison_with_the_source(pair, standard):
    assert output_findings(pair["B"], np.full_like(pair["B"].volume, -1000), standard) == []
    few = replace(pair["B"], files=replace(pair["B"].files, instances=pair["B"].instances[:1]), volume=pair["B"].volume[:1])
    air = scripted_model(Scripted(lambda patches: -1000 - patches))
    names = {found.name for found in air.standardize(replace(few, padding=few.padding[:1])).findings}
    assert {"mean_soft_tissue", "low_pass_difference"} <= names


def test_threads_do_not_change_what_is_measured(pair):
    one, several = (series_characteristics(pair["B"], threads) for threads in (1, 3))
    np.testing.assert_array_equal(one.spectrum, several.spectrum)
    np.testing.assert_array_equal(one.shape, several.shape)
    assert np.isfinite(one.shape).any()
