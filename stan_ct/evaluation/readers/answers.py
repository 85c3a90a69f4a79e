"""Statistics of a reader study: preferences, the blinded test, quality, artefacts, agreement of readers.

The unit is the case: each reader is analysed alone, and several readers together by their majority (or mean) for a case, so
that their answers to one case do not count as independent. Repeats and catch trials have statistics of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.stats import binomtest

from stan_ct.evaluation.readers.page import CHOICES, SIDES, Answer
from stan_ct.evaluation.statistics.agreement import signed_rank_p

TOGETHER = "all readers"
ORDINAL = ("quality", "artefacts")
NOMINAL = ("same", "standard", "preference")
RESAMPLES = 2000


@dataclass(frozen=True)
class CaseShare:
    """`count` of `of` decided cases, and the number of undecided ones."""

    count: int
    of: int
    undecided: int = 0

    @property
    def value(self) -> float:
        """Share, in [0, 1]; NaN without cases."""
        return self.count / self.of if self.of else float("nan")

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % confidence interval; NaN without cases."""
        interval = binomtest(self.count, self.of).proportion_ci(method="wilson") if self.of else (float("nan"),) * 2
        return float(interval[0]), float(interval[1])

    @cached_property
    def p(self) -> float:
        """p value of the exact two-sided binomial test against one half; 1 without cases."""
        return float(binomtest(self.count, self.of).pvalue) if self.of else 1.0


@dataclass(frozen=True)
class Difference:
    """Mean quality of two kinds; bootstrap 95 % interval of first minus second; p value of the signed-rank test."""

    means: tuple[float, float]
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True)
class ReaderAgreement:
    """Chance-corrected agreement of readers on a question, with a bootstrap 95 % interval over the cases."""

    question: str
    method: str
    kappa: float
    interval: tuple[float, float]
    observed: float


@dataclass(frozen=True)
class Comparison:
    """Answers to all cases of the same two kinds, by reader, and `TOGETHER` if there are several readers.

    Attributes:
        kinds: The two kinds of images.
        cases: Number of cases.
        preference: Reader -> share of the first kind among the decided cases.
        standard: Reader -> share of right answers among the decided cases.
        quality: Reader -> difference in quality.
        artefacts: (reader, kind) -> number of images by severity.
        agreement: Agreement of readers, question by question; empty with one reader.
    """

    kinds: tuple[str, str]
    cases: int
    preference: dict[str, CaseShare]
    standard: dict[str, CaseShare]
    quality: dict[str, Difference]
    artefacts: dict[tuple[str, str], Counter]
    agreement: list[ReaderAgreement]


@dataclass(frozen=True)
class Statistics:
    """Results of a study.

    Attributes:
        readers: Readers.
        comparisons: Comparisons of two kinds of images.
        repeats: (reader, question) -> share of repeats that were answered as the first time.
        failures: Reader -> share of catch trials that were failed: equal images called different.
    """

    readers: list[str]
    comparisons: list[Comparison]
    repeats: dict[tuple[str, str], CaseShare]
    failures: dict[str, CaseShare]


def cohen_kappa(first: np.ndarray, second: np.ndarray, levels: int, quadratic: bool = False) -> float:
    r"""Cohen's kappa of two readers, :math:`1 - \sum w_{ij} o_{ij} / \sum w_{ij} e_{ij}`, o observed, e expected by chance.

    Args:
        first: Answers as integers in [0, levels), (N,).
        second: Answers of the other reader, (N,).
        levels: Number of possible answers.
        quadratic: Weights :math:`(i - j)^2` for ordered answers; else 1 for every :math:`i \ne j`.
    Returns:
        1 for full agreement, 0 for agreement by chance; NaN if chance alone agrees fully.
    Reference: Cohen 1960, 1968.
    Example:
        >>> round(cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), levels=2), 3)
        0.5
    """
    observed = np.zeros((levels, levels))
    np.add.at(observed, (first, second), 1 / len(first))
    expected = np.outer(observed.sum(1), observed.sum(0))
    i, j = np.indices(observed.shape)
    weights = (i - j) ** 2 if quadratic else i != j
    chance = (weights * expected).sum()
    return float(1 - (weights * observed).sum() / chance) if chance else float("nan")


def fleiss_kappa(counts: np.ndarray) -> float:
    """Fleiss' kappa of any number of readers.

    Args:
        counts: Number of readers who gave each answer to each case, (N, levels); all rows have the same sum.
    Returns:
        As :func:`cohen_kappa`.
    Reference: Fleiss 1971.
    """
    readers = counts[0].sum()
    observed = ((counts**2).sum(1) - readers).mean() / (readers * (readers - 1))
    expected = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def reader_statistics(answers: Sequence[Answer], seed: int = 0) -> Statistics:
    """Statistics of a study.

    Args:
        answers: From :func:`~stan_ct.evaluation.readers.page.read_answers`.
        seed: Seed of the bootstrap.
    Raises:
        ValueError: If there are no answers.
    """
    if not answers:
        raise ValueError("a reader study needs answers, got none")
    readers = sorted({answer.reader for answer in answers})
    trials = [a for a in answers if a.role == "trial"]
    pairs = sorted({(min(a.kinds), max(a.kinds)) for a in trials})
    comparisons = [_comparison([a for a in trials if set(a.kinds) == set(pair)], pair, readers, seed) for pair in pairs]
    caught = {reader: [a for a in answers if (a.reader, a.role) == (reader, "catch")] for reader in readers}
    failures = {reader: CaseShare(sum(a.said["same"] != "same" for a in some), len(some)) for reader, some in caught.items()}
    return Statistics(readers, comparisons, _repeats(answers, readers), failures)


def _comparison(answers: list[Answer], kinds: tuple[str, str], readers: list[str], seed: int) -> Comparison:
    cases = sorted({a.case for a in answers})
    said = {(a.reader, a.case): a for a in answers}
    grid = [[said[reader, case] for case in cases] for reader in readers]
    sign = {kinds[0]: 1, kinds[1]: -1}
    preferred = np.array([[sign.get(a.unblinded("preference"), 0) for a in row] for row in grid])
    correct = [
        [0 if a.said["standard"] not in SIDES else 1 if a.said["standard"] == a.truth else -1 for a in row] for row in grid
    ]
    testable = [bool(a.truth) for a in grid[0]]
    quality = np.array([[[int(a.of("quality", k)) for k in kinds] for a in row] for row in grid], float)
    return Comparison(
        kinds,
        len(cases),
        _votes(preferred, readers),
        _votes(np.array(correct)[:, testable], readers),
        {name: _difference(pairs, seed) for name, pairs in _with_all(readers, quality, quality.mean(0)).items()},
        {(r, k): Counter(a.of("artefacts", k) for a in row) for r, row in zip(readers, grid, strict=True) for k in kinds},
        [_agreement(grid, question, seed) for question in ORDINAL + NOMINAL] if len(readers) > 1 else [],
    )


def _with_all(readers: list[str], rows: np.ndarray, together: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(readers, rows, strict=True)) | ({TOGETHER: together} if len(readers) > 1 else {})


def _votes(votes: np.ndarray, readers: list[str]) -> dict[str, CaseShare]:
    """Shares of votes 1, from votes 1, -1 and 0 (undecided), (readers, cases); together, the majority of a case counts."""
    rows = _with_all(readers, votes, np.sign(votes.sum(0)))
    return {name: CaseShare(int((v > 0).sum()), int((v != 0).sum()), int((v == 0).sum())) for name, v in rows.items()}


def _difference(pairs: np.ndarray, seed: int) -> Difference:
    """Difference in quality, from the quality of two kinds, (cases, 2)."""
    differences = pairs[:, 0] - pairs[:, 1]
    picks = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.percentile(differences[picks].mean(1), (2.5, 97.5))
    means = pairs.mean(0)
    return Difference(
        (float(means[0]), float(means[1])), (float(low), float(high)), signed_rank_p(differences.round(9))
    )  # means of readers carry rounding errors


def _agreement(grid: list[list[Answer]], question: str, seed: int) -> ReaderAgreement:
    """Agreement on a question, coded by sides as shown: they are random, so a popular kind does not raise chance agreement."""
    fields = [f"{question}_{side}" for side in SIDES] if question in ORDINAL else [question]
    codes = np.array([[[CHOICES[f].index(a.said[f]) for f in fields] for a in row] for row in grid])  # readers, cases, fields
    readers, cases, levels = *codes.shape[:2], len(CHOICES[fields[0]])
    picks = np.random.default_rng(seed).integers(cases, size=(RESAMPLES, cases))
    kappas = np.array([_kappa(codes[:, pick].reshape(readers, -1), levels, question) for pick in picks])
    known = kappas[~np.isnan(kappas)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (float("nan"),) * 2
    flat = codes.reshape(readers, -1)
    method = ("Cohen" if readers == 2 else "mean of Cohen's") + ", quadratic weights" if question in ORDINAL else ""
    method = method or ("Cohen" if readers == 2 else "Fleiss")
    observed = float(np.mean([(flat[i] == flat[j]).mean() for i, j in combinations(range(readers), 2)]))
    return ReaderAgreement(question, method, _kappa(flat, levels, question), (float(low), float(high)), observed)


def _kappa(codes: np.ndarray, levels: int, question: str) -> float:
    """Kappa of answers (readers, N): Fleiss' for unordered answers of more than two readers, else Cohen's, mean over pairs."""
    if len(codes) > 2 and question not in ORDINAL:
        return fleiss_kappa((codes[:, :, None] == np.arange(levels)).sum(0))
    pairs = combinations(codes, 2)
    return float(np.mean([cohen_kappa(first, second, levels, question in ORDINAL) for first, second in pairs]))


def _repeats(answers: Sequence[Answer], readers: list[str]) -> dict[tuple[str, str], CaseShare]:
    """How often each reader gave the same answer to a case and to its repeat, whose sides are swapped."""
    first = {(a.reader, a.name): a for a in answers if a.role == "trial"}
    shares = {}
    for reader in readers:
        pairs = [(first[reader, a.name], a) for a in answers if (a.reader, a.role) == (reader, "repeat")]
        for question in ORDINAL:
            same = [one.of(question, kind) == two.of(question, kind) for one, two in pairs for kind in one.kinds]
            shares[reader, question] = CaseShare(sum(same), len(same))
        for question in NOMINAL:
            shares[reader, question] = CaseShare(
                sum(a.unblinded(question) == b.unblinded(question) for a, b in pairs), len(pairs)
            )
    return shares
