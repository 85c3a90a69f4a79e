"""Results of a reader study as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from stan_ct.evaluation.readers.answers import CaseShare, Comparison, Statistics
from stan_ct.evaluation.readers.page import ARTEFACTS


def markdown(statistics: Statistics) -> str:
    """Statistics as tables with 95 % intervals, and a note on methods."""
    parts = ["# Reader study", f"{len(statistics.readers)} readers: {', '.join(statistics.readers)}."]
    for comparison in statistics.comparisons:
        parts += _compared(comparison)
    if any(share.of for share in statistics.repeats.values()):
        header = ["reader", "question", "same answer", "share [95 % CI]"]
        rows = [
            [reader, question, f"{s.count} of {s.of}", _interval(s)] for (reader, question), s in statistics.repeats.items()
        ]
        parts += ["## Repeats: a reader's agreement with the first answer, sides swapped", _table(header, rows)]
    if any(share.of for share in statistics.failures.values()):
        rows = [[reader, f"{s.count} of {s.of}", _interval(s)] for reader, s in statistics.failures.items()]
        text = "## Catch trials: one image on both sides, called different"
        parts += [text, _table(["reader", "failed", "share [95 % CI]"], rows)]
    return "\n\n".join([*parts, NOTES]) + "\n"


NOTES = (
    'The unit is the case. "all readers" is the majority of the readers of each case (quality: their mean), a tie being '
    "undecided. Shares are of decided cases, with Wilson's interval; p of shares is the exact two-sided binomial test against "
    "one half, p of quality SciPy's two-sided Wilcoxon signed-rank test over cases; intervals of quality and kappa are "
    "bootstrapped over cases. p is not corrected for the number of tests. Repeats and catch trials count in their own "
    "tables only."
)


def _compared(c: Comparison) -> list[str]:
    first, second = c.kinds
    votes = ["share [95 % CI]", "p"]
    preferred = [[r, s.count, s.of - s.count, s.undecided, _interval(s), _p(s.p)] for r, s in c.preference.items()]
    found = [
        [r, s.count, s.of - s.count, s.undecided, _interval(s), _p(s.p)] for r, s in c.standard.items() if s.of + s.undecided
    ]
    quality = [
        [r, f"{d.means[0]:.2f}", f"{d.means[1]:.2f}", f"{d.means[0] - d.means[1]:+.2f} {_ends(d.interval, '+.2f')}", _p(d.p)]
        for r, d in c.quality.items()
    ]
    artefacts = []
    for (reader, kind), n in c.artefacts.items():
        any_artefact = CaseShare(n.total() - n["none"], n.total())
        artefacts.append([reader, kind, *(n[severity] for severity in ARTEFACTS), _interval(any_artefact)])
    parts = [f"## {first} and {second}, {c.cases} cases", "Preferred for diagnosis:"]
    parts.append(_table(["reader", first, second, "none", f"share of {first} [95 % CI]", "p"], preferred))
    if found:
        parts += ["Which side comes from the standard protocol (one half is chance):"]
        parts.append(_table(["reader", "right", "wrong", "cannot tell", "right " + votes[0], "p"], found))
    parts += ["Quality, 1 to 5:", _table(["reader", first, second, "difference [95 % CI]", "p"], quality)]
    parts += ["Artefacts, images:", _table(["reader", "kind", *ARTEFACTS, "any, share [95 % CI]"], artefacts)]
    if c.agreement:
        header = ["question", "kappa", "kappa [95 % CI]", "equal answers"]
        rows = [[a.question, a.method, f"{a.kappa:.2f} {_ends(a.interval, '.2f')}", f"{a.observed:.0%}"] for a in c.agreement]
        parts += ["Agreement of readers:", _table(header, rows)]
    return parts


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _ends(interval: tuple[float, float], form: str) -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def _interval(share: CaseShare) -> str:
    return f"{share.value:.2f} {_ends(share.interval, '.2f')}" if share.of else "-"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
