"""The methods paragraph says what was done, no more, and says what was not."""

from dataclasses import fields, replace

import pytest

from stan_ct.evaluation.methods.facts import (
    AGGREGATIONS,
    Bootstrap,
    Concordance,
    DataSet,
    GrayLevels,
    PairedTests,
    Patches,
    Record,
    Regions,
)
from stan_ct.evaluation.methods.text import PHANTOM, methods_text, statements
from stan_ct.features.glcm import ALL_FEATURES, FEATURES

SIMULATED = DataSet("phantoms in kernels BR40 and BL64", real=False, patients=4, slices=160)
REAL = DataSet("chest CT in kernels B and L", real=True, patients=1, slices=36)
LEVELS = GrayLevels("number", 256, 1900 / 256, -1000, 900)

BARE = Record((SIMULATED,), Patches(256, 128, 0.7, 3810), (LEVELS,), FEATURES, {"STAN-CT": "0.1.0"})
"""Errors, and nothing else."""

FULL = replace(
    BARE,
    quality=True,
    split="The patients are not those of training",
    bootstrap=Bootstrap(10_000, seed=7),
    concordance=Concordance(0.85),
    tests=PairedTests("errors of STAN-CT and GANai", 10),
    undefined={"the target's feature is 0": 12, "the patch is flat": 0},
    excluded={"patches with too little soft tissue": 1234},
)


def said(record):
    """Heading -> text."""
    return {statement.heading: statement.text for statement in statements(record)}


def test_the_full_record_in_words():
    """Every number of the record stands in the text, with the items of CLEAR and IBSI that it answers."""
    assert (
        methods_text(FULL)
        == """\
**Data.** The CT images are simulated: phantoms in kernels BR40 and BL64 (simulated; 4 patients, 160 slices). The patients are \
not those of training. (CLEAR 13, 15; IBSI 8)

**Image interpolation.** No image interpolation was applied; features were calculated in the pixels of the reconstruction. \
(CLEAR 22; IBSI 50a, 51)

**Regions of interest.** Nothing was segmented. The regions are 3,810 square patches of 256 x 256 pixels (the whole of a \
smaller slice) with a stride of 128 pixels, the last row and column moved back to the border, in which at least 70% of the \
source's pixels are soft tissue, [-1000, 900] HU. All images have the same patches. They were not re-segmented. \
(CLEAR 19; IBSI 48c, 55)

**Discretization.** Fixed bin number (K15C), 256 gray levels of 7.422 HU over [-1000, 900] HU. The edges are the same in all \
images and regions; HU outside count to the end levels. (CLEAR 23; IBSI 56a-c)

**Texture features.** 5 features of the gray-level co-occurrence matrix, of images without further filter: dissimilarity \
(8S9J), contrast (ACUI), homogeneity (inverse difference moment, WF0Z), energy (square root of angular second moment, 8ZQL), \
correlation (NI2N). Matrices are symmetric and normalized, distance 1 pixel (Chebyshev), angles 0, 45, 90, 135 degrees, no \
distance weighting; aggregation 2D averaged (BTW3): features are calculated per direction and slice, then averaged. The \
correlation of a flat region is 1 by definition. (CLEAR 24-27; IBSI 57, 58, 62-65)

**Error.** The error of a feature is relative to the target's (Eq. 8), |feature of the image - feature of the target| / \
|feature of the target|, in each region, then averaged over the regions, with the standard deviation (n - 1). (CLEAR 39)

**Image quality.** PSNR and SSIM (Gaussian windows of 1.5 pixels, Wang et al. 2004) were calculated slice by slice where the \
source is soft tissue, of HU clipped to [-1000, 900] HU; the emphysema index LAA-950 is the percentage of lung, air of at \
least 10 cm^2 within the body in a slice of the target, that is below -950 HU. Noise was measured in at most 4 uniform regions \
of 24 x 24 pixels a slice, found in the target: the standard deviation around a trend of second order, the mean frequency of \
its power spectrum P, and the error of P, the sum of |P - P of the target| over the sum of the target's, over frequencies \
weighted by area. The MTF, which takes a phantom, was not measured. (CLEAR 39)

**Statistics.** Confidence intervals of 95% are percentiles of 10,000 bootstrap samples of patients, each with all its regions \
(seed 7). Agreement is Lin's concordance correlation coefficient over patients (variances divided by n); a feature of 0.85 or \
more counts as reproducible. Beside it stands the intraclass correlation of absolute agreement, ICC(2,1) (two-way random \
effects, one measurement). Errors of STAN-CT and GANai were compared by the two-sided Wilcoxon signed-rank test, 10 p values \
adjusted together for the false discovery rate (Benjamini-Hochberg). (CLEAR 40, 41)

**Undefined values.** Undefined, not averaged and not replaced: 12 because the target's feature is 0. Excluded: 1,234 patches \
with too little soft tissue. (CLEAR 29)

**Software.** STAN-CT 0.1.0. The definitions of the features are those that the test suite of stan-ct compares with the \
published values of IBSI's digital phantom; this report did not repeat that comparison. (CLEAR 25; IBSI 59, 61)"""
    )


def test_what_was_not_done_is_said():
    """None in the record is a sentence that says so, and no word of the method remains."""
    text, bare = methods_text(replace(BARE, errors=False)), said(BARE)
    for word in ("bootstrap", "Lin's", "Wilcoxon", "Benjamini", "Eq. 8", "0.85", "reproducible", "ICC", "uniform regions"):
        assert word not in text
        assert word in methods_text(FULL)
    assert (
        bare["Statistics"]
        == "No confidence intervals were calculated. No concordance was calculated. No hypothesis was tested."
    )
    assert bare["Undefined values"] == "No value was undefined. Nothing was excluded."
    assert bare["Data"].endswith("How the patients were separated from those of training was not recorded.")
    assert bare["Software"] == f"STAN-CT 0.1.0. {PHANTOM}"
    assert bare["Image quality"] == "Noise, emphysema index, PSNR and SSIM of the images were not measured."
    assert said(replace(BARE, errors=False))["Error"] == "No errors against a target were calculated."


@pytest.mark.parametrize(
    ("data", "kind"),
    [((REAL,), "real"), ((SIMULATED,), "simulated"), ((REAL, SIMULATED), "partly real, partly simulated")],
)
def test_real_and_simulated_data_are_told_apart(data, kind):
    """In the first words, and again for each set."""
    text = said(replace(BARE, data=data))["Data"]
    assert text.startswith(f"The CT images are {kind}: ")
    assert ("(real; 1 patient, 36 slices)" in text, "(simulated; 4 patients" in text) == (REAL in data, SIMULATED in data)


def test_regions_that_were_segmented():
    """Their segmentation in words, and the HU range they were cut to, or that they were not."""
    regions = Regions("spheres around nodules", 1, (-1000, 400))
    cut = said(replace(BARE, regions=regions))["Regions of interest"]
    assert cut == "1 region, segmented as follows: spheres around nodules. They were cut to [-1000, 400] HU."
    kept = said(replace(BARE, regions=replace(regions, resegmentation=None)))["Regions of interest"]
    assert kept.endswith("They were not re-segmented.")


def test_all_discretizations_are_named():
    """By number and by size, each with IBSI's code."""
    both = replace(BARE, gray_levels=(GrayLevels("size", 76, 25, -1000, 900), LEVELS))
    assert said(both)["Discretization"].startswith(
        "Fixed bin size (Q3RU), 76 gray levels of 25 HU over [-1000, 900] HU; fixed bin number (K15C), 256 gray levels"
    )


CODES = {
    "2D averaged": "BTW3",
    "2D slice-merged": "SUJT",
    "2.5D direction-merged": "JJUI",
    "2.5D merged": "ZW7Z",
    "3D averaged": "ITBB",
    "3D merged": "IAZD",
}


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations(name):
    """IBSI's code, and directions in space for volumes only."""
    text = said(replace(BARE, aggregation=name))["Texture features"]
    assert f"aggregation {name} ({CODES[name]})" in text
    assert ("13 directions in space" in text, "angles 0, 45, 90, 135" in text) == (name[:2] == "3D", name[:2] != "3D")


def test_features_are_those_of_the_record():
    """No feature is claimed that was not computed; IBSI's own names are not said twice."""
    text = said(replace(BARE, features=("contrast",)))["Texture features"]
    assert text.startswith(
        "1 feature of the gray-level co-occurrence matrix, of images without further filter: contrast (ACUI)."
    )
    assert "correlation" not in text
    assert "joint_entropy (joint entropy, TU9B)" in said(replace(BARE, features=ALL_FEATURES))["Texture features"]


def test_numbers_are_not_rounded_away():
    """97.5 % is not 98 %, nor 62.5 % 62 %."""
    record = replace(FULL, bootstrap=Bootstrap(999, 0, 0.975), regions=Patches(64, 32, 0.625, 1))
    assert "Confidence intervals of 97.5% are percentiles of 999 bootstrap" in methods_text(record)
    assert "1 square patch of 64 x 64 pixels" in methods_text(record)
    assert "at least 62.5% of" in methods_text(record)


def test_interpolation_is_said_where_there_was_any():
    """In the record's words."""
    text = said(replace(BARE, interpolation="linear, to 1 mm"))["Image interpolation"]
    assert text == "Images were interpolated: linear, to 1 mm."


@pytest.mark.parametrize(
    "wrong", [{"features": ("busyness",)}, {"aggregation": "4D"}, {"gray_levels": (replace(LEVELS, by="rank"),)}, {"data": ()}]
)
def test_unknown_methods_are_refused(wrong):
    """A word without a definition cannot be reported."""
    with pytest.raises(ValueError, match=r"known, not \["):
        replace(BARE, **wrong)


def test_every_field_of_the_record_changes_the_text():
    """Nothing is recorded that is not said."""
    other = {
        "data": (REAL,), "regions": Patches(64, 32, 0.5, 9), "gray_levels": (replace(LEVELS, levels=64),),
        "features": ("contrast",), "versions": {"a": "1"}, "split": "s", "interpolation": "i", "aggregation": "3D merged",
        "errors": False, "quality": True, "bootstrap": Bootstrap(1, 1), "concordance": Concordance(0.9),
        "tests": PairedTests("t", 1), "undefined": {"u": 1}, "excluded": {"l": 1},
    }  # fmt: skip
    assert set(other) == {field.name for field in fields(Record)}
    assert [name for name, value in other.items() if methods_text(replace(BARE, **{name: value})) == methods_text(BARE)] == []
