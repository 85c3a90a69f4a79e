"""Slices that a model was trained on are left out, or the report says that they are not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.pairs import read_headers
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.measure.training_slices import patch_warnings, without_training_slices
from stan_ct.evaluation.run import evaluate
from stan_ct.evaluation.sections import warnings_of
from stan_ct.evaluation.settings import Evaluation
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.patches.training_slices import TrainingSlices, uid_hash
from stan_ct.report.blocks import Text


def texture(seed, amplitude):
    return np.random.default_rng(seed).normal(0, amplitude, (4, 32, 32)).round().clip(-900, 800)


def write_manifest(folder, seen):
    """The manifest of a run in whose model's training the slices were seen."""
    slices = [{"source_uid": uid, "seen_in_training": what} for uid, what in seen.items()]
    (folder / "manifest.json").write_text(json.dumps({"stan_ct": "1", "series": [{"status": "refused"}, {"slices": slices}]}))


@pytest.fixture
def case(tmp_path, write_series):
    """Settings for a series and what was made of it, below a manifest, and the UIDs of its slices."""
    uids = write_series(tmp_path / "source", texture(1, 30), series=1)
    write_series(tmp_path / "out/series/a", texture(2, 90), series=2, DerivationDescription="STAN-CT 1.0")
    write_series(tmp_path / "target", texture(3, 100), series=3)
    return SeriesSettings(tmp_path / "source", {"made": tmp_path / "out/series"}, tmp_path / "target"), uids


def chosen(settings, models=None, include=False):
    """The slices that are compared, None for all, and the warnings."""
    source = read_headers(settings.source_dir, "source")
    found, warnings = without_training_slices(settings, source, models or {}, include)
    return found.only_instances, warnings


def test_slices_of_the_training_are_left_out(case, tmp_path):
    """By the manifest above the synthesized series: two were seen, two of the same study are measured, with a warning."""
    settings, uids = case
    write_manifest(tmp_path / "out", dict(zip(uids, ["train", "validation", "study", None], strict=True)))
    only, warnings = chosen(settings)
    assert only == frozenset(uids[2:])
    assert warnings == [
        "made: of 4 source slices its model was trained on 1 and chosen on 1; these are left out, --include_training_slices "
        "measures them too",
        "made: 1 of 4 source slices are others of studies that its model was trained on: it may do better here than on other "
        "patients",
    ]


def test_the_report_says_so(case, tmp_path):
    """Two slices are measured; the warning stands before the results. With the flag it is four, and the warning stays."""
    settings, uids = case
    write_manifest(tmp_path / "out", dict.fromkeys(uids[:2], "train"))
    for include, slices, words in ((False, 2, "; these are left out"), (True, 4, "; they are measured all the same")):
        report = evaluate(Evaluation(tmp_path / "eval", series=settings, include_training_slices=include, resamples=10))
        assert f"its model was trained on 2 and chosen on 0{words}" in warnings_of(report)[0]
        (methods,) = (section.text for section in report.sections if isinstance(section, Text))
        assert f"{slices} slices" in methods


def test_listed_slices_are_measured(case, tmp_path):
    """Slices that the user lists are compared, the warning counts those among them."""
    settings, uids = case
    write_manifest(tmp_path / "out", dict.fromkeys(uids[:2], "validation"))
    listed = frozenset(uids[1:])
    only, (warning,) = chosen(replace(settings, only_instances=listed))
    assert only == listed
    assert warning == "made: of 3 source slices its model was trained on 0 and chosen on 1; they are measured all the same"


def test_nothing_is_left(case, tmp_path):
    """Then nothing is measured, and the message says why, and how to measure all the same."""
    settings, uids = case
    write_manifest(tmp_path / "out", dict.fromkeys(uids, "train"))
    with pytest.raises(NotComparable, match=r"^no source slice is left to compare\. made: of 4 .* --include_training_slices"):
        chosen(settings)
    assert chosen(settings, include=True)[0] is None


def test_series_of_a_model_that_does_not_know_its_slices(case, tmp_path):
    """All are measured, with a warning."""
    settings, uids = case
    write_manifest(tmp_path / "out", dict.fromkeys(uids, "series"))
    only, (warning,) = chosen(settings)
    assert only is None
    assert warning.startswith(
        "made: 4 of 4 source slices are of series that its model was trained on; on which of their slices is"
    )


@pytest.mark.parametrize("place", ["out/series/a", "out/series", "out", "."])
def test_where_the_manifest_lies(case, tmp_path, place):
    """In the folder that is given, above it, or in a folder of it."""
    settings, uids = case
    write_manifest(tmp_path / place, {uids[0]: "train"})
    assert chosen(settings)[0] == frozenset(uids[1:])
    below = replace(settings, synthesized={"made": tmp_path / "out"})
    assert (chosen(below)[0] is None) == (place == "out/series/a")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"stan_ct": 1, "series": 3}', '{"stan_ct": 1, "series": [4, {"slices": [5]}]}']
)
def test_a_manifest_of_something_else(case, tmp_path, text):
    """Nothing is known then, and nothing said."""
    (tmp_path / "out/manifest.json").write_text(text)
    assert chosen(case[0]) == (None, [])


def test_a_model_by_its_folder(case, tmp_path):
    """A model knows its slices itself."""
    settings, uids = case
    seen = TrainingSlices(frozenset(map(uid_hash, uids[:3])), frozenset(), frozenset())
    save_model(tmp_path / "model", ModelConfig("m", "histogram", "A", "B", False, histogram=(-9.0, 9.0)), slices=seen)
    only, (warning,) = chosen(settings, {"Table 2": tmp_path / "model"})
    assert only == frozenset(uids[3:])
    assert warning.startswith("Table 2: of 4 source slices its model was trained on 3 and chosen on 0; ")


def test_patches_of_the_training(tmp_path):
    """Records made anew, with another split: a model was trained on what is now the test."""
    hashes = [uid_hash(n) for n in range(6)]
    seen = TrainingSlices(frozenset(hashes[:3]), frozenset(hashes[2:4]))
    save_model(tmp_path / "model", ModelConfig("m", "histogram", "A", "B", False, histogram=(-9.0, 9.0)), slices=seen)
    index = {"images": [], "fingerprints": {}, "instances": {"test": " ".join(hashes[1:]), "train": ""}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    (warning,) = patch_warnings(tmp_path, "test", {"m": tmp_path / "model"})
    cut = f"the test patches in {tmp_path} are cut from 5 slices, of source and target"
    assert warning == f"{cut}: m was trained on 2 of them and chosen on 1"
    assert patch_warnings(tmp_path, "train", {"m": tmp_path / "model"}) == []
    (tmp_path / "index.json").write_text(json.dumps({"images": [], "fingerprints": {}}))
    assert patch_warnings(tmp_path, "test", {"m": tmp_path / "model"}) == []
