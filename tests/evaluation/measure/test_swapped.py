"""A source and target that were exchanged are said to be, by what was made of them; those in their places are not."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from stan_ct.evaluation.measure.measurement import MEASURES, Measured
from stan_ct.evaluation.measure.series import SeriesSettings, measure_series
from stan_ct.evaluation.measure.swapped import swap_warning, texture_distance
from stan_ct.evaluation.run import evaluate
from stan_ct.evaluation.sections import warnings_of
from stan_ct.evaluation.settings import Evaluation
from stan_ct.features.glcm import FEATURES

LOOKS = "source and target look swapped: in texture, what was synthesized is nearer to the source than to the target"


def measured(*values):
    """Measurements of one patch for each value, which all five features of texture have; others differ wildly."""
    features = np.random.default_rng(1).normal(size=(len(values), len(MEASURES)))
    features[:, [MEASURES.index(name) for name in FEATURES]] = np.array(values, float)[:, None]
    return Measured(features, np.zeros((0, 0, 4)))


def test_distance_in_texture():
    """1 and 3 are 2/4 apart, 2 and 2 are not apart, 0 and 0 neither, 1 and -1 wholly; in both directions."""
    one, other = measured(1, 2, 0, 1), measured(3, 2, 0, -1)
    assert texture_distance(one, other) == texture_distance(other, one) == (0.5 + 0 + 0 + 1) / 4
    assert texture_distance(one, one) == 0


@pytest.mark.parametrize(("made", "warns"), [(1.0, True), (1.99, True), (2.0, False), (2.01, False), (4.0, False)])
def test_the_limit_is_half_way(made, warns):
    """Between 1 and 4, 2 is as far from both, 1/3: below it what was made is like the source, and from there on it is not."""
    warning = swap_warning({"source": measured(1), "made": measured(made), "target": measured(4)}, [])
    assert bool(warning) is warns
    assert not warns or warning.startswith(LOOKS)


def test_the_numbers_are_said():
    """The distances from both, by name, and what to check."""
    warning = swap_warning({"source": measured(1), "made": measured(1), "target": measured(4)}, [])
    assert "(distances from both: made 0.000 and 0.600). Check --source_dir and --target_dir; if they are right" in warning


def test_one_good_method_is_enough():
    """A rival that changes nothing is not a swap where another is nearer to the target."""
    rows = {"source": measured(1), "rival": measured(1), "made": measured(3.9), "target": measured(4)}
    assert swap_warning(rows, []) == ""
    assert "rival 0.000 and 0.600, made 0.091 and 0.538" in swap_warning(rows | {"made": measured(1.2)}, [])


def test_nothing_to_judge():
    """Without a target, or anything synthesized, or texture that differs: nothing is said."""
    assert swap_warning({"source": measured(1), "made": measured(1)}, []) == ""
    assert swap_warning({"source": measured(1), "target": measured(1)}, []) == ""
    assert swap_warning({"source": measured(1), "made": measured(1), "target": measured(1)}, []) == ""


@pytest.fixture
def series(tmp_path, write_series):
    """Soft source, sharp target, and what was made of the source: the target's texture; headers do not say of what."""
    rng = np.random.default_rng(0)
    for number, (name, noise) in enumerate({"source": 30, "target": 90, "made": 90}.items(), 1):
        write_series(tmp_path / name, rng.normal(0, noise, (3, 24, 24)).round(), series=number)
    return SeriesSettings(tmp_path / "source", {"made": tmp_path / "made"}, tmp_path / "target")


def swapped(settings):
    return replace(settings, source_dir=settings.target_dir, target_dir=settings.source_dir)


def name_origin(series, number):
    """Writes into what was made that it was made of the series of this number."""
    for z in range(3):
        slice_ = pydicom.dcmread(path := series.synthesized["made"] / f"3-{z}.dcm")
        origin = Dataset()
        origin.ReferencedSOPInstanceUID = slice_.SOPInstanceUID.replace(".3.", f".{number}.")
        slice_.SourceImageSequence = [origin]
        slice_.save_as(path)


def test_directories_that_were_exchanged(series, tmp_path):
    """In their places nothing is said; exchanged, the first thing in the report is the warning."""
    assert measure_series(series).warning == ""
    report = evaluate(Evaluation(tmp_path / "out", series=swapped(series)))
    (warning,) = warnings_of(report)
    assert warning.startswith(LOOKS)
    assert report.sections[0].blocks[0].text == warning
    assert warnings_of(evaluate(Evaluation(tmp_path / "out", series=series))) == []


def test_headers_that_name_their_source(series, write_series):
    """Made of slices of the target: swapped, whatever the texture. Made of the source: not, though it changed nothing."""
    name_origin(series, 1)
    warning = measure_series(swapped(series)).warning
    assert warning == (
        "source and target are swapped: made was made of slices of the target, as its DICOM headers say. Exchange "
        "--source_dir and --target_dir"
    )
    assert measure_series(series).warning == ""
    write_series(series.synthesized["made"], np.random.default_rng(3).normal(0, 30, (3, 24, 24)).round(), series=3)
    assert measure_series(series).warning.startswith(LOOKS)
    name_origin(series, 1)
    assert measure_series(series).warning == ""
    name_origin(series, 9)  # of neither, as de-identification leaves it
    assert measure_series(series).warning.startswith(LOOKS)
