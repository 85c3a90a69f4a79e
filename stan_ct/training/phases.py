"""Who trains, who has won, who goes back: the fully-optimised alternative training of GANai, without any network.

D-phase: every D trains, against all Gs, until it tells each of them from the target; G-phase: every G trains until it
deceives every D. A copy that has won rests until the phase ends. A copy that has not won after `t_max` steps goes back to
where the phase found it and tries again on fresh batches; when its tries are used up, the best of them is kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

Phase = Literal["d", "g"]
Copies = Literal["population", "history"]


@dataclass(frozen=True)
class PhaseRules:
    """The numbers of the competition.

    Attributes:
        number: N, generators and as many discriminators.
        copies: `population`: all N train and compete (the paper's words); `history`: the first trains, the others are what it
            was at the ends of its last phases (the authors' code).
        d_phase_steps: t_max of a D-phase.
        g_phase_steps: t_max of a G-phase.
        theta_d: D has won when P(real | x) > theta_d and P(real | G(x')) < 1 - theta_d for every G.
        theta_g: G has won when P(real | G(x')) > theta_g under every D.
        max_rollbacks: How often a copy goes back in one phase. `t_max` and this are not in the paper.
        window: Batches over which P(real) is averaged.
    Raises:
        ValueError: If a number is out of its range.
    """

    number: int = 2
    copies: Copies = "population"
    d_phase_steps: int = 100
    g_phase_steps: int = 100
    theta_d: float = 0.99
    theta_g: float = 0.99
    max_rollbacks: int = 1
    window: int = 20

    def __post_init__(self) -> None:
        least = {"number": 1, "d_phase_steps": 1, "g_phase_steps": 1, "max_rollbacks": 0, "window": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        for name in ("theta_d", "theta_g"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, in 0..1, not {getattr(self, name)}")

    def t_max(self, phase: Phase) -> int:
        """Steps of one try."""
        return self.d_phase_steps if phase == "d" else self.g_phase_steps

    @property
    def trainable(self) -> tuple[int, ...]:
        """The copies that train in their phase."""
        return tuple(range(self.number)) if self.copies == "population" else (0,)


@dataclass(frozen=True)
class Verdict:
    """What follows from a step, to be done in this order; copies by number.

    Attributes:
        won: These rest from now on.
        keep: The state of these is their best try so far.
        roll_back: These go back to where the phase found them.
        restore: These take their best try: they have used up their tries, and it was not the last.
        ended: The phase is over, and why: `won`, `gave_up` (some copy had not won), or empty.
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
        opponents: Whether there are Ds. Without, Gs train in phases of t_max steps that nobody wins.
    Attributes:
        phase: Who trains.
        phases: Phases completed.
        version: G-phases completed: the version of G (x-axis of Fig. 3).
        step: Steps of this try, of all copies that still train.
        attempt: Tries used up in this phase, 0 in the first.
        active: Copies that train.
    """

    def __init__(self, rules: PhaseRules, opponents: bool = True) -> None:
        self.rules, self.opponents, self.phases, self.version = rules, opponents, 0, 0
        self._start("d" if opponents else "g")

    def _start(self, phase: Phase) -> None:
        self.phase, self.step, self.attempt = phase, 0, 0
        self.active = self.rules.trainable
        self._best: dict[int, float] = {}
        self._recent = {copy: deque(maxlen=self.rules.window) for copy in self.active}

    def observe(self, p_real_target: np.ndarray, p_real_synthesized: np.ndarray) -> Verdict:
        """Takes note of a step and decides.

        Args:
            p_real_target: P(real | x) under each D, (N,), means over the batch and all replicas.
            p_real_synthesized: P(real | G(x')) under each D for each G, (N, N): rows D, columns G.
        """
        self.step += 1
        if not self.opponents:
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
        if self.active and self.step < self.rules.t_max(self.phase):
            return Verdict(won=won)
        return self._end_of_try(won)

    def score(self, copy: int) -> float:
        """How far a copy is: the worst of its moving means of P(judged as it wishes), in [0, 1]; 0 before its first step."""
        recent = self._recent.get(copy)
        return float(np.mean(recent, axis=0).min()) if recent else 0.0

    def _has_won(self, copy: int) -> bool:
        theta = self.rules.theta_d if self.phase == "d" else self.rules.theta_g
        enough = min(self.rules.window, self.rules.t_max(self.phase))
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
        self._start("g" if self.phase == "d" or not self.opponents else "d")
        return verdict

    def state(self) -> dict:
        """Everything that :meth:`from_state` needs to go on, JSON-able."""
        return {
            "rules": asdict(self.rules),
            "opponents": self.opponents,
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
        referee = cls(PhaseRules(**state["rules"]), state["opponents"])
        referee.phase, referee.phases, referee.version = state["phase"], state["phases"], state["version"]
        referee.step, referee.attempt, referee.active = state["step"], state["attempt"], tuple(state["active"])
        referee._best = {int(copy): score for copy, score in state["best"].items()}
        window = referee.rules.window
        referee._recent = {int(copy): deque(seen, maxlen=window) for copy, seen in state["recent"].items()}
        return referee
