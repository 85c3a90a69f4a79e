"""The reader study of series: cases are neighbouring slices of one series, beside the standard."""

import json

import numpy as np
import pytest

from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.evaluation.readers import study as reading
from stan_ct.evaluation.readers.study import StudySettings, make_study, summarize_answers


@pytest.fixture
def series(tmp_path, write_series):
    """Two source series of 5 and 3 slices, one above the other; HU n and 100 + n tell the slices of source and output apart."""
    for number, name in enumerate(("source", "made", "target")):
        hu = np.arange(8)[:, None, None] + np.full((8, 6, 8), 100 * number)
        write_series(tmp_path / name, hu[:5], series=1 + number)
        write_series(tmp_path / name, hu[5:], series=11 + number, shift=(0, 0, 10))
    return SeriesSettings(tmp_path / "source", {"made": tmp_path / "made"}, tmp_path / "target")


@pytest.fixture
def shown(monkeypatch):
    """What `make_study` shows: for each case, kind -> HU of its slices; and the keywords of the page."""
    cases, options = [], {}

    def catch(made, output_dir, standard, repeats, catch_trials, seed):
        keywords = {"standard": standard, "repeats": repeats, "catch_trials": catch_trials, "seed": seed}
        cases.extend({kind: hu[:, 0, 0].astype(int).tolist() for kind, hu in case.images.items()} for case in made)
        options.update(keywords, spacing=made[0].pixel_spacing)
        return output_dir / "page", output_dir / "key"

    monkeypatch.setattr(reading, "write_reader_study", catch)
    return cases, options


def test_a_case_is_neighbours_of_one_series(series, shown, tmp_path):
    """Two by two: 0 1, 2 3 of the first series (4 is left over) and 5 6 of the second; never 4 with 5."""
    make_study(series, tmp_path, StudySettings(cases=20, slices=2))
    cases, options = shown
    assert [case["made"] for case in cases] == [[100, 101], [102, 103], [105, 106]]
    assert [case["target"] for case in cases] == [[200, 201], [202, 203], [205, 206]]
    assert options == {"standard": "target", "repeats": 0, "catch_trials": 0, "seed": None, "spacing": (0.7, 0.7)}


def test_slices_beside_a_gap_are_no_neighbours(series, shown, tmp_path):
    """Slice 2 has no target: 0 1 and 3 4 are cases, 1 3 are none."""
    (series.target_dir / "3-2.dcm").unlink()
    make_study(series, tmp_path, StudySettings(cases=20, slices=2))
    assert [case["made"] for case in shown[0]] == [[100, 101], [103, 104], [105, 106]]


def test_few_slices_are_a_case_of_their_own(series, shown, tmp_path):
    """Where a series has less than the slices of a case, all of it is one."""
    make_study(series, tmp_path, StudySettings(cases=20, slices=4))
    assert [case["made"] for case in shown[0]] == [[100, 101, 102, 103], [105, 106, 107]]


def test_cases_are_spread_over_the_series(series, shown, tmp_path):
    """Three of eight slices: the first, one in the middle, the last."""
    make_study(series, tmp_path, StudySettings(cases=3, slices=1))
    assert [case["made"] for case in shown[0]] == [[100], [104], [107]]


def test_without_a_target_the_source_is_the_standard(series, shown, tmp_path):
    """What was made of the source is shown beside the source."""
    make_study(SeriesSettings(series.source_dir, series.synthesized, None), tmp_path, StudySettings(cases=1, slices=2))
    assert shown[0] == [{"made": [100, 101], "source": [0, 1]}]
    assert shown[1]["standard"] == "source"


def test_only_the_first_synthesized_series_counts(series, shown, tmp_path, write_series):
    """A second one, that has a single slice, takes no slices away."""
    write_series(tmp_path / "less", np.zeros((1, 6, 8)), series=30)
    both = SeriesSettings(series.source_dir, {**series.synthesized, "less": tmp_path / "less"}, series.target_dir)
    make_study(both, tmp_path, StudySettings(cases=20, slices=2))
    assert len(shown[0]) == 3


def test_the_page_and_its_key(series, tmp_path):
    """Both are written; the key names the kinds; equal seeds give equal studies, and without one each is another."""
    page, key = make_study(series, tmp_path / "a", StudySettings(2, 2, seed=4))
    content = json.loads(key.read_text())
    assert page.exists()
    assert (content["standard"], content["seed"], len(content["cases"])) == ("target", 4, 2)
    assert {tuple(sorted(case["kinds"])) for case in content["cases"].values()} == {("made", "target")}
    again, _ = make_study(series, tmp_path / "b", StudySettings(2, 2, seed=4))
    assert again.read_bytes() == page.read_bytes()
    assert (
        make_study(series, tmp_path / "c", StudySettings(2, 2))[0].name
        != make_study(series, tmp_path / "c", StudySettings(2, 2))[0].name
    )
    assert "TEST" not in page.read_text().replace("TESTED", "")  # the Patient ID
    assert str(series.source_dir) not in page.read_text()


def test_answers_from_the_page_to_the_table(series, tmp_path):
    """A reader who always finds the target's side and prefers it: 2 of 2 right."""
    _, key = make_study(series, tmp_path, StudySettings(2, 2, seed=4))
    content = json.loads(key.read_text())
    lines = ["study,reader,case,quality_left,quality_right,artefacts_left,artefacts_right,standard,same,preference,comment"]
    for name, case in content["cases"].items():
        side = ("left", "right")[case["kinds"].index("target")]
        lines.append(f"{content['study']},AB,{name},3,4,none,none,{side},different,{side},")
    (tmp_path / "ab.csv").write_text("\n".join(lines) + "\n")
    text = summarize_answers([str(tmp_path / "ab.csv")], str(key), tmp_path / "out")
    assert "| AB | 2 | 0 | 0 | 1.00" in text
    assert (tmp_path / "out/readers.md").read_text() == text


def test_answers_need_the_key(tmp_path):
    """Without it nobody knows what was on which side."""
    with pytest.raises(ValueError, match="--reader_answers needs --reader_key"):
        summarize_answers(["a.csv"], None, tmp_path)


def test_a_study_needs_what_was_made_of_the_source(series, tmp_path):
    """Source and target alone are no study."""
    with pytest.raises(ValueError, match="give --synthesized_dir"):
        make_study(SeriesSettings(series.source_dir, {}, series.target_dir), tmp_path, StudySettings(1, 1))


def test_repeats_and_catch_trials_from_the_settings_to_the_table(series, tmp_path):
    """A reader who answers repeats as before and calls every pair different: agreement 1 of 1, every catch trial failed."""
    _, key = make_study(series, tmp_path, StudySettings(2, 2, repeats=1, catch_trials=2, seed=4))
    content = json.loads(key.read_text())
    roles = [case["role"] for case in content["cases"].values()]
    assert (roles.count("trial"), roles.count("repeat"), roles.count("catch")) == (2, 1, 2)
    lines = ["study,reader,case,quality_left,quality_right,artefacts_left,artefacts_right,standard,same,preference,comment"]
    for name, case in content["cases"].items():
        side = ("left", "right")[case["kinds"].index("target")] if "target" in case["kinds"] else "left"
        lines.append(f"{content['study']},AB,{name},3,3,none,none,{side},different,{side},")
    (tmp_path / "ab.csv").write_text("\n".join(lines) + "\n")
    text = summarize_answers([tmp_path / "ab.csv"], key, tmp_path / "out")
    assert "## Repeats: a reader's agreement with the first answer, sides swapped" in text
    assert "| AB | preference | 1 of 1 |" in text
    assert "| AB | 2 of 2 | 1.00" in text


def test_there_cannot_be_more_repeats_than_cases(series, tmp_path):
    """Two cases, three repeats: refused with both numbers."""
    with pytest.raises(ValueError, match="3 repeats and 0 catch trials need as many cases, got 2"):
        make_study(series, tmp_path, StudySettings(2, 2, repeats=3))
