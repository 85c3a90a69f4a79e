"""What a standardized series says of itself where people look: Series Description, Image Comments, window."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from synthesizers import Scripted, scripted_model
from synthetic import random_stored, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.refusal import Refusal
from stan_ct.dicom.series import load_series
from stan_ct.errors import UsageError
from stan_ct.patches.training_slices import TrainingSlices, uid_hash
from stan_ct.reconstruction import finding_texts
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.cohort import Run, standardize_cohort
from stan_ct.reconstruction.finding_texts import findings_in_short, worst_value
from stan_ct.reconstruction.loading import load_model, load_models
from stan_ct.reconstruction.manifest import result_entry
from stan_ct.reconstruction.selection import ModelSet

TIMES = {f"{what}{kind}" for what in ("InstanceCreation", "Content", "Series") for kind in ("Date", "Time")}
ALWAYS = "STAN-CT: research use only, not for diagnosis."


@pytest.fixture
def result(tmp_path):
    """A series of two slices, standardized by the identity, without a finding."""
    write_ct(tmp_path / "in", random_stored((2, 16, 16)))
    (files,) = find_series(tmp_path / "in").series
    standardized = scripted_model(Scripted()).standardize(load_series(files))
    slices = tuple(replace(s, findings=()) for s in standardized.slices)
    return replace(standardized, slices=slices, fidelity=replace(standardized.fidelity, findings=()))


def written(result, folder):
    """Series Descriptions, Image Comments and UIDs of its slices."""
    result.write(folder)
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return [[str(ds[k].value) for ds in slices] for k in ("SeriesDescription", "ImageComments", "SOPInstanceUID")]


def test_a_series_without_findings_says_what_it_is_not_for(result, tmp_path):
    """And no more; its description is that of a series that is well."""
    descriptions, comments, _ = written(result, tmp_path / "out")
    assert descriptions == ["Thorax 2.5 STAN-CT L"] * 2
    assert comments == [ALWAYS] * 2


def test_findings_open_the_description_and_follow_in_the_comments(result, tmp_path):
    """Those of the series in every slice, those of a slice in its own; the UIDs stay."""
    *_, uids = written(result, tmp_path / "well")
    fidelity = replace(result.fidelity, findings=(Finding("mean_lung", -7.25, 5.0),))
    slices = (result.slices[0], replace(result.slices[1], findings=(Finding("box_artefact", 11.25, 10.0),)))
    descriptions, comments, same = written(replace(result, fidelity=fidelity, slices=slices), tmp_path / "out")
    assert descriptions == ["FINDINGS Thorax 2.5 STAN-CT L"] * 2
    of_series = "Findings of the series: Mean HU of lung changed: -7.25 HU (+-5 HU). 1 of 2 slices with findings."
    of_slice = "This slice: Border of a patch is visible: 11.25 standard deviations (at most 10 standard deviations)."
    assert comments == [f"{ALWAYS} {of_series}", f"{ALWAYS} {of_series} {of_slice}"]
    assert same == uids


@pytest.mark.parametrize("place", ["series", "slice"])
def test_one_finding_anywhere_is_enough(result, tmp_path, place):
    """Of the series, or of one slice: every slice's description has the warning."""
    finding = (Finding("mean_fat", 6.0, 5.0),)
    if place == "series":
        found = replace(result, fidelity=replace(result.fidelity, findings=finding))
    else:
        found = replace(result, slices=(replace(result.slices[0], findings=finding), result.slices[1]))
    assert written(found, tmp_path / "out")[0] == ["FINDINGS Thorax 2.5 STAN-CT L"] * 2


def test_out_of_protocol_is_the_first_warning(result, tmp_path):
    """Alone it is the only one; with findings, or with slices that are missing, both are said."""
    caution = replace(result, cautions=("kernel X, the model standardizes B",))
    descriptions, comments, _ = written(caution, tmp_path / "a")
    assert descriptions == ["OUT OF PROTOCOL Thorax 2.5 STAN-CT L"] * 2
    said = f"{ALWAYS} Findings of the series: Out of protocol: kernel X, the model standardizes B."
    assert comments == [said] * 2
    refusal = Refusal("truncated", "short", (), "")
    missing = replace(caution, source=replace(result.source, refusals=(refusal,)))
    descriptions, comments, _ = written(missing, tmp_path / "b")
    assert descriptions == ["OUT OF PROTOCOL, FINDINGS Thorax 2.5 STAN-CT L"] * 2
    assert comments == [f"{said} 1 slice of the source refused and missing here."] * 2


def test_the_window_is_the_target_s_where_the_target_is_sharper(result, tmp_path):
    """A soft kernel's 40 / 400 follows the window of kernel L, -600 / 1600; where the model smooths, it stays alone."""
    model = result.model
    smooths = replace(result, model=replace(model, identity=replace(model.identity, sharpens=False)))
    unknown = replace(result, model=replace(model, identity=replace(model.identity, target_kernel="Z9")))
    for name, of, expected in (
        ("L", result, ([-600, 40], [1600, 400])),
        ("smooth", smooths, (40, 400)),
        ("unknown", unknown, (40, 400)),
    ):
        of.write(tmp_path / name)
        ds = pydicom.dcmread(tmp_path / name / "IM0001.dcm")
        assert (ds.WindowCenter, ds.WindowWidth) == expected
    assert list(pydicom.dcmread(tmp_path / "L" / "IM0001.dcm").WindowCenterWidthExplanation) == ["STAN-CT L", "SOURCE"]


def test_a_model_that_changes_the_thickness_says_so(result, tmp_path):
    """Slice Thickness is the target's, and the description says that it is derived; positions, and all else, stay."""
    plain = tmp_path / "plain"
    result.write(plain)
    model = replace(result.model, identity=replace(result.model.identity, target_thickness=1.0))
    replace(result, model=model).write(tmp_path / "thin")
    for path in sorted(plain.iterdir()):
        before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "thin" / path.name)
        assert (before.SliceThickness, after.SliceThickness) == (2.5, 1)
        assert after.SeriesDescription == "Thorax 2.5 STAN-CT L 1 mm"
        stated = "to kernel L 1 mm by scripted 00000000; Slice Thickness is derived (source: 2.5 mm), positions unchanged"
        assert after.DerivationDescription.endswith(stated)
        assert after.ImagePositionPatient == before.ImagePositionPatient
        differing = {e.keyword for e in before if after.get(e.tag) != e and e.VR != "SQ"}
        told = {"SeriesDescription", "DerivationDescription", "WindowCenterWidthExplanation"}
        assert differing <= {"SliceThickness", *told, *TIMES}
        assert before.PixelData == after.PixelData


def test_slices_between_are_written_on_demand(tmp_path):
    """A model that makes slices of 1 mm fills a series of 2.5 mm, 1.25 mm apart, and says so; UIDs are others."""
    write_ct(tmp_path / "in", np.full((3, 64, 64), 1064) + np.arange(3)[:, None, None])
    plain = scripted_model(Scripted())
    thin = replace(plain, identity=replace(plain.identity, target_thickness=1.0))
    uids = {}
    for name, model in (("plain", thin), ("filled", replace(thin, slices_between=True))):
        run = Run(tmp_path / "in", tmp_path / name, ModelSet((model,)), "test")
        outcome = standardize_cohort(find_series(tmp_path / "in"), run, lambda s, _: s, lambda line: None)
        assert outcome.exit_code == 0
        (entry,) = json.loads((tmp_path / name / "manifest.json").read_text())["series"]
        slices = [pydicom.dcmread(path) for path in sorted((tmp_path / name / "series").glob("*/*.dcm"))]
        uids[name] = {ds.SOPInstanceUID for ds in slices}
        of_source = slices if name == "plain" else slices[::2]
        assert [one["derived_uid"] for one in entry["slices"]] == [ds.SOPInstanceUID for ds in of_source]
    assert [ds.InstanceNumber for ds in slices] == [1, 2, 3, 4, 5]
    assert np.diff([float(ds.ImagePositionPatient[2]) for ds in slices]).tolist() == [1.25] * 4
    between = entry["interpolated"]
    assert [(one["derived_uid"], one["fraction"]) for one in between] == [(ds.SOPInstanceUID, 0.5) for ds in slices[1::2]]
    assert between[0]["between"] == [one["source_uid"] for one in entry["slices"][:2]]
    assert "Slices between those of the source are interpolated." in slices[0].ImageComments
    assert not uids["plain"] & uids["filled"]


def test_models_that_make_no_such_slices():
    """Slices between are for models that change the thickness; the others are named with what they make."""
    with pytest.raises(UsageError, match=r"no model makes slices of 1 mm.*; they make: default as thick as the source"):
        load_models(["default"], slice_thickness=1.0)
    with pytest.raises(UsageError, match=r"no model makes slices of 1 mm"):
        load_model("default", slice_thickness=1.0)


def test_auto_keeps_the_slice_thickness_unless_another_is_asked_for():
    """`thin` changes the slice thickness, so it is chosen where it, or slices of 1 mm, are named; refusals recommend it."""

    def labels(models):
        return [model.label for model in models]

    chosen = load_models(["auto"])
    assert (labels(chosen.models), labels(chosen.others)) == (["default", "philips_b_l"], ["thin"])
    assert labels(load_models(["auto"], slice_thickness=1.0).models) == ["thin"]
    assert labels(load_models(["thin", "auto"]).models) == ["thin", "default", "philips_b_l"]


def test_findings_in_short_are_ascii_and_counted():
    """Title, the worst value, its limit; how often the name came."""
    found = [Finding("overlap", 0.4, 0.5), Finding("overlap", 0.3, 0.5), Finding("overlap", 0.45, 0.5), Finding("\u00fcber")]
    text = findings_in_short(found)
    assert text == "Patches overlap too little: 30 % (at least 50 %), 3 times; ?ber"
    assert findings_in_short([]) == ""


def test_the_worst_value_is_farthest_beyond_the_limit():
    """The least where the limit is the least allowed, else the greatest, whatever its sign; none of none."""
    assert worst_value("overlap", [0.4, None, 0.3]) == 0.3
    assert worst_value("mean_fat", [-9.0, 6.0]) == -9.0
    assert worst_value("mean_fat", [None]) is None


def test_docstrings():
    """The example holds."""
    result = doctest.testmod(finding_texts)
    assert (result.failed, result.attempted) == (0, 2)


def test_slices_of_the_training_are_named(result, tmp_path):
    """The manifest says of each slice what the model has seen of it in training."""
    first = result.source.instances[0]
    seen = TrainingSlices(frozenset([uid_hash(first.uid)]), frozenset(), frozenset([uid_hash(first.header.StudyInstanceUID)]))
    for model, expected in ((result.model, [None, None]), (replace(result.model, seen=seen), ["train", "study"])):
        entry = result_entry(result.source.files, replace(result, model=model), 1, ["1", "2"], 0.0)
        assert [s["seen_in_training"] for s in entry["slices"]] == expected
