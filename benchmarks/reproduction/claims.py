"""What the paper says, and what is asked of this project, and whether it is so here: yes, no, or not told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reproduction import rows
from reproduction.intervals import NO, OPEN, YES, Estimate, verdict
from reproduction.results import BIASES, MEAN, QUANTITIES, RMSE, Results
from stan_ct.features.glcm import FEATURES

LARGEST_ERROR, LARGEST_BIAS = 0.03, 2.0
"""Goals of our row: errors (Eq. 8), and bias of a tissue in HU."""
AGREEING = 0.95
"""Goal of our row: share of features that agree with the target."""
PAPER_WINS = {"BL57": 5, "BR40": 4}
"""Source kernel -> features of five in which the paper's STAN-CT is below GANai."""


@dataclass(frozen=True)
class Claim:
    """What is said, whether it is so (`YES`, `NO` or `OPEN`), and the numbers."""

    said: str
    answer: str
    numbers: str


def claims_of(results: Results) -> list[Claim]:
    """Every claim about the rows on one test."""
    return [*_paper(results), *_filter_in_front(results), *_ablations(results), *_baseline(results), *_goals(results)]


def _paper(results: Results) -> Iterator[Claim]:
    """What Table 1 of the paper says."""
    if {rows.PAPER, rows.GANAI} <= results.rows.keys():
        below = results.difference(rows.PAPER, rows.GANAI)
        asked = PAPER_WINS.get(results.kernel, max(PAPER_WINS.values()))
        told = below.below()[: len(FEATURES)]
        yield Claim(f"{rows.PAPER} is below {rows.GANAI} in {asked} of 5 features", at_least(asked, told), _count(told))
    for other in (rows.NO_LAT, rows.NO_FEAT):
        yield from _lower(results, rows.PAPER, other)


def _filter_in_front(results: Results) -> Iterator[Claim]:
    """What the filter in front brings to every row of the paper."""
    for name in list(results.rows):
        yield from _lower(results, name + rows.WITH_FILTER, name)


def _ablations(results: Results) -> Iterator[Claim]:
    """What each part of our rows brings."""
    for whole in (rows.OURS, rows.PAIRED, rows.PHASES):
        for end in (rows.WITHOUT_ADVERSARIAL, rows.WITHOUT_TEXTURE, rows.L1_ALONE):
            yield from _lower(results, whole, whole + end)
        yield from _lower(results, whole + rows.WITHOUT_TEXTURE, whole + rows.L1_ALONE)
        yield from _lower(results, whole + rows.TWO_COPIES, whole)
    yield from _lower(results, rows.PAIRED, rows.OURS)


def _baseline(results: Results) -> Iterator[Claim]:
    """Our rows against the best one without networks."""
    for name in (rows.OURS, rows.PAIRED):
        if name in results.rows and rows.BASELINE in results.rows:
            difference = results.difference(name, rows.BASELINE)
            told = difference.below()
            said = f"{name} is below {rows.BASELINE} in 5 of 5 features"
            yield Claim(said, at_least(len(FEATURES), told[: len(FEATURES)]), _count(told[: len(FEATURES)]))
            place = QUANTITIES.index(RMSE)
            yield Claim(f"{RMSE} of {name} is below that of {rows.BASELINE}", told[place], signed(difference, RMSE, 2))


def _goals(results: Results) -> Iterator[Claim]:
    """What is asked of our rows."""
    for name in (rows.OURS, rows.PAIRED):
        if name in results.rows:
            row, found = results.rows[name], results.rows[name].estimate()
            errors = found.below(LARGEST_ERROR)[: len(FEATURES)]
            yield Claim(f"{name}: errors at most {LARGEST_ERROR}", at_least(len(FEATURES), errors), listed(found, FEATURES))
            places = [QUANTITIES.index(name) for name in BIASES]
            within = [
                _both(verdict(found.low[k], found.high[k], LARGEST_BIAS), verdict(-found.high[k], -found.low[k], LARGEST_BIAS))
                for k in places
            ]
            numbers = listed(found, BIASES, 1, "+")
            yield Claim(f"{name}: bias at most {LARGEST_BIAS:g} HU in every tissue", at_least(len(within), within), numbers)
            told = ", ".join(f"{100 * share:.0f} %" for share in row.agreeing)
            said = f"{name}: CCC ≥ 0.85 for {100 * AGREEING:g} % of features"
            yield Claim(said, unanimous([share >= AGREEING for share in row.agreeing]), f"{told} by seed")


def _lower(results: Results, one: str, other: str) -> Iterator[Claim]:
    """Claim that the mean error of one row is below that of another; none if either is missing."""
    if {one, other} <= results.rows.keys():
        difference = results.difference(one, other)
        answer = difference.below()[QUANTITIES.index(MEAN)]
        told = difference.below()[: len(FEATURES)]
        yield Claim(f"The mean error of {one} is below that of {other}", answer, f"{signed(difference, MEAN)}; {_count(told)}")


def at_least(asked: int, told: Sequence[str]) -> str:
    """Whether at least so many of several things are so, as far as each can be told."""
    return YES if told.count(YES) >= asked else NO if told.count(YES) + told.count(OPEN) < asked else OPEN


def unanimous(found: Sequence[bool]) -> str:
    """Yes or no if all seeds say so; one seed alone says nothing."""
    return OPEN if len(found) < 2 or len(set(found)) > 1 else YES if found[0] else NO


def _both(one: str, other: str) -> str:
    return NO if NO in (one, other) else YES if one == other == YES else OPEN


def _count(told: Sequence[str]) -> str:
    """Number of features in which a row is lower, higher, or not told apart."""
    return f"lower in {told.count(YES)}, higher in {told.count(NO)}, not told apart in {told.count(OPEN)} of {len(told)}"


def signed(found: Estimate, quantity: str, digits: int = 3) -> str:
    """A difference with its interval, as text."""
    k = QUANTITIES.index(quantity)
    return f"{found.mean[k]:+.{digits}f}{interval(found.low[k], found.high[k], digits, '+')}"


def listed(found: Estimate, quantities: Sequence[str], digits: int = 3, sign: str = "") -> str:
    """Several quantities with their intervals, as text."""
    return ", ".join(_named(found, name, digits, sign) for name in quantities)


def _named(found: Estimate, name: str, digits: int, sign: str) -> str:
    k = QUANTITIES.index(name)
    ends = interval(found.low[k], found.high[k], digits, sign)
    return f"{name.removeprefix('bias, ')} {found.mean[k]:{sign}.{digits}f}{ends}"


def interval(low: float, high: float, digits: int, sign: str = "") -> str:
    """An interval as text; empty if there is none."""
    return "" if np.isnan(low) else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
