"""Rules of the fully-optimised alternative training of GANai (who trains, wins and rolls back), without any network.

D-phase: every D trains, against all Gs, until it tells each of them from the target; G-phase: every G trains until it
deceives every D. A copy that has won rests until the phase ends. A copy that has not won after `t_max` steps goes back to
where the phase found it and tries again on fresh batches; when its tries are used up, the best of them is kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from stan_ct.options import check, option

Phase = Literal["d", "g"]
Opponents = Literal["population", "history"]


@dataclass(frozen=True)
class PhaseRules:
    """The rules of the competition.

    Attributes:
        num_copies: N, the number of generators, and of discriminators.
        opponents: `population`: all N copies train and compete (the paper's words); `history`: the first copy trains, the
            others are its own states at the ends of its last phases (the authors' code).
        d_phase_steps: t_max, steps of one attempt at a D-phase; not in the paper.
        g_phase_steps: t_max of a G-phase.
        warm_up_steps: t_max of the first D-phase, in which D starts from nothing; 0: as the others (ours).
        theta_d: D has won when P(real | x) > theta_d and P(real | G(x')) < 1 - theta_d for every G.
        theta_g: G has won when P(real | G(x')) > theta_g under every D.
        max_rollbacks: Number of times a copy that has not won is rolled back within one phase; not in the paper.
        averaging_batches: Number of batches over which P(real) is averaged.
    Raises:
        UsageError: If a value is out of its range.
    """

    num_copies: int = option(1, help="N: number of generators, and of discriminators.", minimum=1)
    opponents: Opponents = option("population", help="Whether all N copies train, or one against its own past.")
    d_phase_steps: int = option(50, help="Steps of one attempt at a D-phase (t_max).", minimum=1)
    g_phase_steps: int = option(200, help="Steps of one attempt at a G-phase (t_max).", minimum=1)
    warm_up_steps: int = option(0, help="Steps of one attempt at the first D-phase; 0: as at the others.", minimum=0)
    theta_d: float = option(
        0.99, help="D wins at P(real | target) above this and P(real | synthesized) below 1 minus this.", minimum=0, maximum=1
    )
    theta_g: float = option(0.99, help="G wins at P(real | synthesized) above this under every D.", minimum=0, maximum=1)
    max_rollbacks: int = option(0, help="Rollbacks of a copy that has not won, in one phase.", minimum=0)
    averaging_batches: int = option(20, help="Batches over which P(real) is averaged.", minimum=1)

    def __post_init__(self) -> None:
        check(self)

    def t_max(self, phase: Phase, first: bool = False) -> int:
        """Steps of one try at a phase; at the `first` of all D may have more."""
        if first and phase == "d" and self.warm_up_steps:
            return self.warm_up_steps
        return self.d_phase_steps if phase == "d" else self.g_phase_steps

    @property
    def trainable(self) -> tuple[int, ...]:
        """The copies that train in their phase."""
        return tuple(range(self.num_copies)) if self.opponents == "population" else (0,)


@dataclass(frozen=True)
class Verdict:
    """Consequences of a step, in the order in which they are carried out; copies by number.

    Attributes:
        won: Copies that have won, and rest from now on.
        keep: Copies whose present state is that of their best attempt so far.
        roll_back: Copies that return to their state at the start of the phase.
        restore: Copies that return to their best attempt, having used up all attempts.
        ended: Why the phase is over: `won`, or `gave_up` if some copy has not won; empty while it goes on.
    """

    won: tuple[int, ...] = ()
    keep: tuple[int, ...] = ()
    roll_back: tuple[int, ...] = ()
    restore: tuple[int, ...] = ()
    ended: Literal["", "won", "gave_up"] = ""


class Referee:
    """Follows P(real) from step to step and decides.

    Args:
        rules: The numbers of the competition.
        has_discriminators: Whether there are Ds; without, Gs train in phases of t_max steps that nobody wins.
    Attributes:
        phase: Who trains.
        phases: Phases completed.
        version: G-phases completed: the version of G (x-axis of Fig. 3).
        step: Steps of this try, of all copies that still train.
        attempt: Tries used up in this phase, 0 in the first.
        active: Copies that train.
    """

    def __init__(self, rules: PhaseRules, has_discriminators: bool = True) -> None:
        self.rules, self.has_discriminators, self.phases, self.version = rules, has_discriminators, 0, 0
        self._start("d" if has_discriminators else "g")

    def _start(self, phase: Phase) -> None:
        self.phase, self.step, self.attempt = phase, 0, 0
        self.active = self.rules.trainable
        self._best: dict[int, float] = {}
        self._recent: dict[int, deque[list[float]]] = {copy: deque(maxlen=self.rules.averaging_batches) for copy in self.active}

    def observe(self, p_real_target: np.ndarray, p_real_synthesized: np.ndarray) -> Verdict:
        """Takes note of a step and decides.

        Args:
            p_real_target: P(real | x) under each D, (N,), means over the batch and all replicas.
            p_real_synthesized: P(real | G(x')) under each D for each G, (N, N): rows D, columns G.
        """
        self.step += 1
        if not self.has_discriminators:
            return Verdict() if self.step < self.rules.g_phase_steps else self._end_of_phase(Verdict(ended="won"))
        for copy in self.active:
            seen = (
                [p_real_target[copy], *(1 - np.asarray(p_real_synthesized)[copy])]
                if self.phase == "d"
                else np.asarray(p_real_synthesized)[:, copy]
            )
            self._recent[copy].append([float(p) for p in seen])
        won = tuple(copy for copy in self.active if self._has_won(copy))
        self.active = tuple(copy for copy in self.active if copy not in won)
        if self.active and self.step < self._t_max:
            return Verdict(won=won)
        return self._end_of_try(won)

    @property
    def _t_max(self) -> int:
        return self.rules.t_max(self.phase, first=self.phases == 0)

    def score(self, copy: int) -> float:
        """Progress of a copy, in [0, 1]; 0 before its first step.

        It is the lowest moving average, over its opponents, of the probability that it is judged as it wants.
        """
        recent = self._recent.get(copy)
        return float(np.mean(recent, axis=0).min()) if recent else 0.0

    def _has_won(self, copy: int) -> bool:
        theta = self.rules.theta_d if self.phase == "d" else self.rules.theta_g
        enough = min(self.rules.averaging_batches, self._t_max)
        return len(self._recent[copy]) >= enough and self.score(copy) > theta

    def _end_of_try(self, won: tuple[int, ...]) -> Verdict:
        """All have won, or the steps are used up."""
        losers = self.active
        scores = {copy: self.score(copy) for copy in losers}
        best = tuple(copy for copy in losers if scores[copy] >= self._best.get(copy, -1.0))
        if losers and self.attempt < self.rules.max_rollbacks:
            self._best.update({copy: scores[copy] for copy in best})
            self.attempt, self.step = self.attempt + 1, 0
            for copy in losers:
                self._recent[copy].clear()
            return Verdict(won, keep=best, roll_back=losers)
        restore = tuple(copy for copy in losers if copy not in best)
        return self._end_of_phase(Verdict(won, restore=restore, ended="gave_up" if losers else "won"))

    def _end_of_phase(self, verdict: Verdict) -> Verdict:
        self.phases += 1
        self.version += self.phase == "g"
        self._start("g" if self.phase == "d" or not self.has_discriminators else "d")
        return verdict

    def state(self) -> dict:
        """Everything that :meth:`from_state` needs to go on, JSON-able."""
        return {
            "rules": asdict(self.rules),
            "has_discriminators": self.has_discriminators,
            "phase": self.phase,
            "phases": self.phases,
            "version": self.version,
            "step": self.step,
            "attempt": self.attempt,
            "active": list(self.active),
            "best": {str(copy): score for copy, score in self._best.items()},
            "recent": {str(copy): list(seen) for copy, seen in self._recent.items()},
        }

    @classmethod
    def from_state(cls, state: dict) -> Referee:
        """The referee that :meth:`state` was taken of."""
        referee = cls(PhaseRules(**state["rules"]), state["has_discriminators"])
        referee.phase, referee.phases, referee.version = state["phase"], state["phases"], state["version"]
        referee.step, referee.attempt, referee.active = state["step"], state["attempt"], tuple(state["active"])
        referee._best = {int(copy): score for copy, score in state["best"].items()}
        window = referee.rules.averaging_batches
        referee._recent = {int(copy): deque(seen, maxlen=window) for copy, seen in state["recent"].items()}
        return referee
