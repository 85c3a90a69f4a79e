"""Texture of a ROI has the values published for IBSI's digital phantom, and those of a count by hand."""

import csv
import doctest
import gzip
import math
import struct
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.features import glcm_region as roi
from stan_ct.features.glcm import ALL_FEATURES, Discretization
from stan_ct.features.glcm_region import AGGREGATIONS, fixed_bin_number, fixed_bin_size, roi_features

# IBSI's digital phantom (Zwanenburg et al., CC BY 4.0): 4 slices of 4 rows of 5 voxels; 0: outside the ROI.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
COLUMNS = ("contrast", "dissimilarity", "homogeneity", "asm", "correlation", "joint_entropy", "inverse_difference")
PUBLISHED = {
    "2D averaged": (5.28, 1.42, 0.619, 0.368, -0.0121, 2.05, 0.678),
    "2D slice-merged": (5.19, 1.40, 0.625, 0.352, 0.0173, 2.24, 0.683),
    "2.5D direction-merged": (5.39, 1.46, 0.606, 0.286, 0.178, 2.48, 0.668),
    "2.5D merged": (5.29, 1.44, 0.613, 0.277, 0.182, 2.61, 0.673),
    "3D averaged": (5.32, 1.43, 0.618, 0.303, 0.157, 2.40, 0.677),
    "3D merged": (5.12, 1.38, 0.631, 0.291, 0.183, 2.57, 0.688),
}
TAGS = {
    "contrast": "contrast",
    "dissimilarity": "dissimilarity",
    "homogeneity": "inv_diff_mom",
    "asm": "energy",
    "correlation": "corr",
    "joint_entropy": "joint_entr",
    "inverse_difference": "inv_diff",
}
SUFFIXES = dict(zip(PUBLISHED, ("2D_avg", "2D_comb", "2_5D_avg", "2_5D_comb", "3D_avg", "3D_comb"), strict=True))
IN_PLANE = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)]
IN_SPACE = [*IN_PLANE, *((1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))]


def as_published(value):
    """Three digits, as in the reference manual."""
    return float(f"{value:.3g}")


def by_hand(levels, mask, aggregation):
    """The features of a ROI, voxel by voxel in plain Python: feature -> mean over the matrices where it is defined."""
    dimension, way = aggregation.split()
    matrices = {}
    for z, y, x in product(*map(range, levels.shape)):
        for number, (dz, dy, dx) in enumerate(IN_SPACE if dimension == "3D" else IN_PLANE):
            other = z + dz, y + dy, x + dx
            if all(0 <= c < n for c, n in zip(other, levels.shape, strict=True)) and mask[z, y, x] and mask[other]:
                slice_ = z if dimension == "2D" else None
                direction = number if way in ("averaged", "direction-merged") else None
                counts = matrices.setdefault((slice_, direction), Counter())
                i, j = int(levels[z, y, x]), int(levels[other])
                counts[i, j] += 1
                counts[j, i] += 1
    found = [features_by_hand(counts) for counts in matrices.values()]
    defined = {name: [f[name] for f in found if f[name] is not None] for name in ALL_FEATURES}
    return {name: sum(values) / len(values) if values else math.nan for name, values in defined.items()}


def features_by_hand(counts):
    total = sum(counts.values())
    p = {pair: n / total for pair, n in counts.items()}
    mean = sum(i * q for (i, _), q in p.items())
    variance = sum((i - mean) ** 2 * q for (i, _), q in p.items())
    covariance = sum((i - mean) * (j - mean) * q for (i, j), q in p.items())
    asm = sum(q * q for q in p.values())
    return {
        "dissimilarity": sum(abs(i - j) * q for (i, j), q in p.items()),
        "contrast": sum((i - j) ** 2 * q for (i, j), q in p.items()),
        "homogeneity": sum(q / (1 + (i - j) ** 2) for (i, j), q in p.items()),
        "energy": math.sqrt(asm),
        "correlation": covariance / variance if len({i for i, _ in p}) > 1 else None,
        "asm": asm,
        "inverse_difference": sum(q / (1 + abs(i - j)) for (i, j), q in p.items()),
        "joint_entropy": -sum(q * math.log2(q) for q in p.values()),
    }


def read_nifti(path):
    """(Z, Y, X) voxels of a little-endian NIfTI-1 file of int16."""
    data = gzip.decompress(path.read_bytes())
    nx, ny, nz = struct.unpack_from("<8h", data, 40)[1:4]
    data_type, (offset,) = struct.unpack_from("<h", data, 70)[0], struct.unpack_from("<f", data, 108)
    assert data_type == 4  # int16
    return np.frombuffer(data, "<i2", nx * ny * nz, int(offset)).reshape(nz, ny, nx)


@pytest.mark.parametrize("aggregation", PUBLISHED)
def test_digital_phantom_has_the_published_values(aggregation):
    """All published digits of seven features, for each of IBSI's six ways of aggregating: 42 values."""
    found = roi_features(PHANTOM, PHANTOM > 0, aggregation)
    assert tuple(as_published(found.values[name]) for name in COLUMNS) == PUBLISHED[aggregation]
    assert found.notes == {}


def test_digital_phantom_of_ibsi_s_own_files(real_ct):
    """The phantom above is the one that IBSI publishes, and so are its values; voxels outside the mask have levels as well."""
    folder = real_ct / "ibsi" / "ibsi_1_digital_phantom" / "nifti"
    image, mask = read_nifti(folder / "image" / "phantom.nii.gz"), read_nifti(folder / "mask" / "mask.nii.gz") > 0
    assert np.where(mask, image, 0).tolist() == PHANTOM.tolist()
    assert image[~mask].min() > 0
    with (real_ct / "ibsi" / "ibsi_1_dig_phantom.csv").open() as file:
        published = {row["tag"]: row["reference value"] for row in csv.DictReader(file, delimiter=";")}
    for aggregation, suffix in SUFFIXES.items():
        found = roi_features(image, mask, aggregation).values
        for name in COLUMNS:
            assert as_published(found[name]) == float(published[f"cm_{TAGS[name]}_{suffix}"]), (aggregation, name)


def test_the_codes_of_the_aggregations():
    """Names and codes are the reference manual's."""
    assert {name: aggregation.code for name, aggregation in AGGREGATIONS.items()} == {
        "2D averaged": "BTW3",
        "2D slice-merged": "SUJT",
        "2.5D direction-merged": "JJUI",
        "2.5D merged": "ZW7Z",
        "3D averaged": "ITBB",
        "3D merged": "IAZD",
    }


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    st.integers(1, 5),
    st.floats(0.2, 1.0),
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(AGGREGATIONS)),
)
def test_any_roi_has_the_features_counted_by_hand(shape, n_levels, part, seed, aggregation):
    """Ragged, tiny, flat, torn and empty ROIs: the values of a count voxel by voxel, and NaN and a note where it has none."""
    rng = np.random.default_rng(seed)
    levels, mask = rng.integers(-2, n_levels - 2, shape), rng.random(shape) < part
    found, expected = roi_features(levels, mask, aggregation), by_hand(levels, mask, aggregation)
    for name in ALL_FEATURES:
        assert found.values[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-9, nan_ok=True), name
        assert name in found.notes or not math.isnan(found.values[name])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_real_ct_has_the_features_counted_by_hand(aggregation, real_ct):
    """Soft tissue in a block of a chest, in levels of 25 HU: the values of a count voxel by voxel."""
    (series,) = find_series(real_ct / "chest_philips_1mm").series
    block = load_series(series).volume[10:14, 280:320, 260:310]  # HU
    mask = (block > -150) & (block < 250)
    assert 0.1 < mask.mean() < 0.95
    levels = fixed_bin_size(block, mask, 25, low=-150)
    found = roi_features(levels, mask, aggregation)
    assert found.values == pytest.approx(by_hand(levels, mask, aggregation), rel=1e-9)
    assert found.values["contrast"] > 1


def test_only_the_roi_counts():
    """Voxels outside the mask, the place of the ROI in the volume and a shift of all levels change nothing."""
    mask = PHANTOM > 0
    expected = roi_features(PHANTOM, mask, "3D averaged")
    outside = np.where(mask, PHANTOM + 1000, -(10**6))
    padded, its_mask = (np.pad(a, ((2, 1), (0, 3), (4, 0))) for a in (outside, mask))
    assert roi_features(padded, its_mask, "3D averaged") == expected


def test_levels_of_a_patch_s_discretization():
    """The levels of patches, from 0 on and unsigned, do as well as IBSI's from 1 on."""
    hu = np.random.default_rng(4).uniform(-1000, 900, (3, 6, 6))
    mask = hu < 700
    here = roi_features(Discretization.fixed_size(25).to_levels(hu), mask, "2.5D merged")
    assert here == roi_features(fixed_bin_size(hu, mask, 25, low=-1000), mask, "2.5D merged")


def test_empty_mask():
    """An empty mask has no features, and says so."""
    found = roi_features(PHANTOM, np.zeros(PHANTOM.shape, bool))
    assert all(map(math.isnan, found.values.values()))
    assert found.notes == dict.fromkeys(ALL_FEATURES, "the mask is empty")


def test_a_roi_without_neighbours():
    """Two voxels in a column of slices: neighbours in space, none in the plane."""
    mask = np.zeros(PHANTOM.shape, bool)
    mask[1:3, 0, 1] = True
    assert roi_features(PHANTOM, mask, "3D merged").values["contrast"] == 0
    found = roi_features(PHANTOM, mask, "2.5D merged")
    assert all(map(math.isnan, found.values.values()))
    assert found.notes == dict.fromkeys(ALL_FEATURES, "no two voxels of the ROI are neighbours")


def test_a_constant_roi():
    """One gray level has no correlation, and says why; all else is defined and exact."""
    found = roi_features(np.full((2, 3, 3), 9), np.ones((2, 3, 3), bool), "3D averaged")
    assert math.isnan(found.values.pop("correlation"))
    assert found.values == {
        "dissimilarity": 0,
        "contrast": 0,
        "homogeneity": 1,
        "energy": 1,
        "asm": 1,
        "inverse_difference": 1,
        "joint_entropy": 0,
    }
    assert found.notes == {"correlation": "all neighbours in the ROI have one gray level, so their standard deviation is 0"}


def test_one_constant_slice_of_two():
    """A checkerboard above a constant slice: the correlation is the first's, (-1 - 1 + 1 + 1) / 4, with a note."""
    board = np.indices((4, 4)).sum(axis=0) % 2
    found = roi_features(np.stack([board, np.full((4, 4), 7)]), np.ones((2, 4, 4), bool), "2D averaged")
    assert found.values["correlation"] == pytest.approx(0, abs=1e-15)
    assert found.values["contrast"] == pytest.approx((2 * 1 + 2 * 0 + 4 * 0) / 8)
    left_out = "4 of 8 matrices (slices or directions) have one gray level and are excluded from the mean"
    assert found.notes == {"correlation": left_out}


def test_bins_of_fixed_size():
    """IBSI Q3RU from -1000 HU on: edges belong to the upper bin, levels start at 1, outside the ROI is 0."""
    hu = np.array([[[-1000.0, -975.01, -975.0, -24.9, 0.0, 900.0, -3000.0]]])
    mask = hu > -2000
    assert fixed_bin_size(hu, mask, 25, low=-1000).tolist() == [[[1, 1, 2, 40, 41, 77, 0]]]


def test_a_fixed_number_of_bins():
    """IBSI K15C over the range of the ROI, 0 to 80 HU: 4 bins of 20 HU, the maximum in the last one."""
    hu = np.array([[[0.0, 19.9, 20.0, 59.9, 60.0, 80.0, 500.0, -500.0]]])
    mask = abs(hu) < 100
    assert fixed_bin_number(hu, mask, 4).tolist() == [[[1, 1, 2, 3, 4, 4, 0, 0]]]
    assert fixed_bin_number(np.full((1, 2, 2), 5.5), np.ones((1, 2, 2), bool), 4).tolist() == [[[1, 1], [1, 1]]]
    assert fixed_bin_number(hu, np.zeros_like(mask), 4).tolist() == [[[0] * 8]]


HU, WHOLE = np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2), bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed_bin_size(HU, WHOLE, 25, low=1.5), "2 voxels of the ROI are below 1.5 HU"),
        (lambda: fixed_bin_size(HU, WHOLE, 0, low=0), "bins of > 0 HU, got 0"),
        (lambda: fixed_bin_size(HU, WHOLE, np.nan, low=0), "bins of > 0 HU, got nan"),
        (lambda: fixed_bin_size(np.where(HU > 5, np.nan, HU), WHOLE, 25, low=0), "2 voxels of the ROI are not finite"),
        (lambda: fixed_bin_number(np.where(HU > 6, np.inf, HU), WHOLE, 8), "1 voxels of the ROI are not finite"),
        (lambda: fixed_bin_number(HU, WHOLE, 1), "2 gray levels or more, got 1"),
        (lambda: fixed_bin_number(HU, WHOLE[0], 8), r"a mask of that shape, bool; got float64 of shape \(2, 2, 2\) and bool"),
        (lambda: roi_features(HU, WHOLE), "integers, got float64"),
        (lambda: roi_features(HU[0].astype(int), WHOLE[0]), r"a volume \(Z, H, W\)"),
        (lambda: roi_features(HU.astype(int), WHOLE.astype(int)), "bool; got int64"),
        (lambda: roi_features(HU.astype(int) * 300, WHOLE), "spans 2101 gray levels, at most 2048"),
        (lambda: roi_features(HU.astype(int), WHOLE, "3D"), "expected an aggregation of 2D averaged, .*, got '3D'"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    """The message has what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        call()


def test_examples_in_the_docstrings():
    """The examples of the docstrings are true."""
    result = doctest.testmod(roi)
    assert (result.attempted, result.failed) == (3, 0)
