"""Statistics of a reader study against published and hand-worked examples."""

import doctest

import numpy as np
import pytest

from stan_ct.evaluation.readers import answers as reader_answers
from stan_ct.evaluation.readers.answers import CaseShare, cohen_kappa, fleiss_kappa, reader_statistics
from stan_ct.evaluation.readers.page import Answer
from stan_ct.evaluation.readers.tables import markdown

FLEISS_1971_STYLE = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip
"""14 readers, 10 cases, 5 answers: the common textbook table, kappa .210."""


def answer(reader, case, kinds="st", role="trial", name=None, **said):
    """Source left, target right unless said otherwise; the reader finds nothing unless said otherwise."""
    full = {"s": "source", "t": "target"}
    named = tuple(full[k] for k in kinds)
    truth = ("left", "right")[kinds.index("t")] if kinds in ("st", "ts") else ""
    silent = {"quality_left": "3", "quality_right": "3", "artefacts_left": "none", "artefacts_right": "none"}
    silent |= {"standard": "cannot tell", "same": "same", "preference": "none"}
    return Answer(reader, case, name or case, role, named, truth, silent | said, "")


def test_doctests():
    """The examples in the docstrings are true."""
    assert doctest.testmod(reader_answers).failed == 0


def test_cohen_kappa_of_fifty_proposals():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed .7, by chance .5, kappa .4."""
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second, 2) == pytest.approx(0.4)


def test_quadratic_kappa_by_hand():
    """One of four answers off by one: .25 observed over 1.25 expected; off by two weighs four times as much."""
    assert cohen_kappa(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]), 3, quadratic=True) == pytest.approx(0.8)
    assert cohen_kappa(np.array([0, 1, 2, 2]), np.array([0, 1, 0, 2]), 3, quadratic=True) == pytest.approx(1 - 1 / 1.625)


def test_fleiss_kappa_of_the_textbook():
    """Published as .210 (observed .378, by chance .213)."""
    assert fleiss_kappa(FLEISS_1971_STYLE) == pytest.approx(0.210, abs=5e-4)


def test_kappa_of_one_answer_only():
    """Where all always say the same, agreement beyond chance is undefined; full agreement on varied answers is 1."""
    assert np.isnan(cohen_kappa(np.zeros(5, int), np.zeros(5, int), 2))
    assert np.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == pytest.approx(1)
    assert cohen_kappa(np.array([0, 1]), np.array([0, 1]), 2, quadratic=True) == pytest.approx(1)


def test_share():
    """Newcombe 1998: Wilson of 81 in 263 is .2553 to .3662; 9 of 10 against one half is 22/1024; none is not known."""
    assert CaseShare(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert CaseShare(9, 10).p == pytest.approx(22 / 1024)
    assert np.isnan([CaseShare(0, 0).value, *CaseShare(0, 0).interval]).all()
    assert CaseShare(0, 0).p == 1.0


def three_readers(third="C"):
    """Four cases, sides dealt both ways; A and B always find the target and prefer it, the third finds it in one of four."""
    answers = []
    for case, kinds in zip("wxyz", ("st", "ts", "st", "ts"), strict=True):
        right, wrong = ("right", "left") if kinds == "st" else ("left", "right")
        for reader in "AB":
            said = {"standard": right, "preference": right, "same": "different", f"quality_{right}": "5"}
            answers.append(answer(reader, case, kinds, **said))
        told = {"w": right, "x": wrong, "y": "cannot tell", "z": wrong}[case]
        answers.append(answer(third, case, kinds, standard=told, preference=wrong, **{f"artefacts_{wrong}": "major"}))
    return answers


def test_comparison_by_hand():
    """Preference, blinded test, quality and artefacts follow the kind, not the side; the majority votes once a case."""
    statistics = reader_statistics(three_readers())
    assert statistics.readers == ["A", "B", "C"]
    (c,) = statistics.comparisons
    assert (c.kinds, c.cases) == (("source", "target"), 4)
    of = {name: CaseShare(0, 4) for name in "AB"}
    assert c.preference == of | {"C": CaseShare(4, 4), "all readers": CaseShare(0, 4)}
    right = CaseShare(4, 4)
    assert c.standard == {"A": right, "B": right, "C": CaseShare(1, 3, undecided=1), "all readers": right}
    assert c.quality["A"].means == (3, 5)
    assert c.quality["A"].interval == (-2, -2)
    assert c.quality["A"].p == pytest.approx(2 / 16)
    assert c.quality["all readers"].means == pytest.approx((3, 13 / 3))
    assert (c.quality["C"].means, c.quality["C"].p) == ((3, 3), 1)
    assert c.artefacts["C", "source"] == {"major": 4}
    assert c.artefacts["C", "target"] == c.artefacts["A", "source"] == {"none": 4}


def test_majority_is_not_the_first_reader():
    """Whoever comes first in the alphabet, two of three decide."""
    (c,) = reader_statistics(three_readers(third="0")).comparisons
    assert list(c.preference) == ["0", "A", "B", "all readers"]
    assert (c.preference["0"], c.preference["all readers"]) == (CaseShare(4, 4), CaseShare(0, 4))
    assert (c.standard["0"], c.standard["all readers"]) == (CaseShare(1, 3, undecided=1), CaseShare(4, 4))


def test_bootstrap_intervals():
    """Quality's interval is near that of normal theory; kappa is weighted, lies in its interval, and the seed repeats it."""
    rng, answers, grades = np.random.default_rng(0), [], []
    for case in range(60):
        true = rng.integers(1, 4, 2)
        grades.append([[int(v) for v in true + rng.integers(0, 2, 2)] for _ in "AB"])
        for reader, (left, right) in zip("AB", grades[-1], strict=True):
            answers.append(answer(reader, f"{case:02}", quality_left=str(left), quality_right=str(right)))
    (c,) = reader_statistics(answers).comparisons
    differences = np.array([g[0][0] - g[0][1] for g in grades])
    error = 1.96 * differences.std() / np.sqrt(60)
    assert c.quality["A"].interval == pytest.approx((differences.mean() - error, differences.mean() + error), abs=0.05)
    codes = np.array(grades).transpose(1, 0, 2).reshape(2, -1) - 1
    agreement = c.agreement[0]
    assert agreement.kappa == pytest.approx(cohen_kappa(*codes, 5, quadratic=True))
    assert agreement.interval[0] + 0.05 < agreement.kappa < agreement.interval[1] - 0.02
    assert agreement == reader_statistics(answers).comparisons[0].agreement[0]
    assert agreement != reader_statistics(answers, seed=1).comparisons[0].agreement[0]


def test_agreement_by_hand():
    """Sides as seen: A and B agree fully, C opposes; Fleiss' for names, the mean of Cohen's for grades."""
    agreement = {a.question: a for a in reader_statistics(three_readers()).comparisons[0].agreement}
    preference = agreement["preference"]
    assert (preference.method, preference.observed) == ("Fleiss", pytest.approx(1 / 3))
    assert preference.kappa == pytest.approx((1 / 3 - 1 / 2) / (1 / 2))  # two of one side, one of the other, in every case
    quality = agreement["quality"]
    assert quality.method == "mean of Cohen's, quadratic weights"
    assert quality.kappa == pytest.approx((1 + 0 + 0) / 3)
    assert quality.observed == pytest.approx((1 + 0.5 + 0.5) / 3)
    two = reader_statistics([a for a in three_readers() if a.reader != "B"]).comparisons[0].agreement
    by_question = {a.question: a for a in two}
    assert by_question["preference"].method == "Cohen"
    assert by_question["preference"].kappa == pytest.approx(-1)
    assert by_question["preference"].interval[0] == pytest.approx(-1)
    assert reader_statistics([a for a in three_readers() if a.reader == "C"]).comparisons[0].agreement == []


def test_repeats_and_catch_trials_stand_apart():
    """A swapped repeat agrees if the kind is the same; a catch trial fails if called different; neither is a case."""
    answers = [
        answer("A", "w", "st", preference="right", quality_left="2"),
        answer("A", "x", "st", standard="left"),
        answer("A", "w2", "ts", "repeat", "w", preference="left", quality_right="2"),
        answer("A", "x2", "ts", "repeat", "x", standard="left", artefacts_left="minor"),
        answer("A", "w3", "tt", "catch", "w", same="different", preference="left"),
        answer("A", "x3", "ss", "catch", "x"),
        answer("A", "y3", "ss", "catch", "y"),
    ]
    statistics = reader_statistics(answers)
    shares = {question: (s.count, s.of) for (_, question), s in statistics.repeats.items()}
    assert shares == {"preference": (2, 2), "standard": (1, 2), "same": (2, 2), "quality": (4, 4), "artefacts": (3, 4)}
    assert statistics.failures == {"A": CaseShare(1, 3)}
    (c,) = statistics.comparisons
    assert c.preference == {"A": CaseShare(0, 1, undecided=1)}
    assert c.quality["A"].means == (2.5, 3)


def test_markdown():
    """Every number stands in its table with its interval; tables without entries are not there."""
    text = markdown(reader_statistics(three_readers()))
    assert "## source and target, 4 cases" in text
    assert "| C | 1 | 2 | 1 | 0.33 [0.06, 0.79] | 1.000 |" in text
    assert "| A | 3.00 | 5.00 | -2.00 [-2.00, -2.00] | 0.125 |" in text
    assert "| C | source | 0 | 0 | 4 | 1.00 [0.51, 1.00] |" in text
    assert "| preference | Fleiss | -0.33 [-0.50, -0.33] | 33% |" in text
    assert "Repeats:" not in text
    assert "Catch trials:" not in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_no_answers():
    """Nothing to evaluate is said so."""
    with pytest.raises(ValueError, match="needs answers, got none"):
        reader_statistics([])
