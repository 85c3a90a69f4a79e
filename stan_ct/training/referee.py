"""The referee at work: a Keras callback that leads a competition through its phases, with rollback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from stan_ct.training import checkpoints
from stan_ct.training.competition import Competition
from stan_ct.training.phases import Phase, PhaseRules, Referee, Verdict


class PhaseReferee(keras.callbacks.Callback):
    """Decides after every step which copies train next, and keeps, rolls back and restores copies with their optimizers.

    With `model.fit(dataset, shuffle=False, callbacks=[PhaseReferee(rules)])` on one process a competition trains as the trainer
    trains it, beside any further Keras callbacks. The trainer, which also runs on several machines and resumes exactly, calls
    the same methods from a loop of its own.

    Args:
        rules: Rules of the competition.
    Attributes:
        referee: Follows P(real) and decides.
        snapshots: States kept for a rollback, by name: `start-0`, `best-1`.
        verdict: What followed from the last step.
    """

    def __init__(self, rules: PhaseRules) -> None:
        super().__init__()
        self.rules = rules
        self.verdict = Verdict()
        self.snapshots: dict[str, checkpoints.State] = {}

    def set_model(self, model: Competition) -> None:
        """Takes a compiled competition at its start."""
        super().set_model(model)
        self.players = checkpoints.Players(model)
        self.resume(Referee(self.rules, bool(model.discriminators)), {})

    def resume(self, referee: Referee, snapshots: dict[str, checkpoints.State]) -> None:
        """Goes on from the state of a checkpoint."""
        self.referee, self.snapshots = referee, snapshots
        self._hand_over()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the copies as they are at the start of a phase, if they may be needed again."""
        if self._goes_back and not self.snapshots:
            phase = self.referee.phase
            self.snapshots = {f"start-{c}": self._take(phase, c) for c in self.rules.trainable}

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Observes P(real) in the logs of a step, and carries out what follows from it."""
        phase = self.referee.phase
        self.verdict = self.referee.observe(*self._judgements(logs or {}))
        self._carry_out(phase, self.verdict)
        self._hand_over()

    @property
    def _goes_back(self) -> bool:
        """Whether the state at the start of a phase may be needed again."""
        return self.rules.opponents == "history" or (self.referee.has_discriminators and self.rules.max_rollbacks > 0)

    def _judgements(self, logs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """P(real) of targets, (Ds,), and of the outputs of the Gs, (Ds, Gs); NaN where it was not computed."""
        ds, gs = range(len(self.model.discriminators)), range(len(self.model.generators))
        target = [float(logs.get(f"p_real_target_d{d}", np.nan)) for d in ds]
        synthesized = [[float(logs.get(f"p_real_synthesized_d{d}_g{g}", np.nan)) for g in gs] for d in ds]
        return np.array(target), np.array(synthesized).reshape(len(ds), len(gs))

    def _hand_over(self) -> None:
        self.model.phase, self.model.active = self.referee.phase, self.referee.active

    def _carry_out(self, phase: Phase, verdict: Verdict) -> None:
        """Keeps, rolls back and restores copies."""
        for copy in verdict.keep:
            self.snapshots[f"best-{copy}"] = self._take(phase, copy)
        for kind, copies in (("start", verdict.roll_back), ("best", verdict.restore)):
            for copy in copies:
                self._put(phase, copy, self.snapshots[f"{kind}-{copy}"])
        if verdict.ended:
            if self.rules.opponents == "history":
                self._shift(phase)
            self.snapshots = {}

    def _shift(self, phase: Phase) -> None:
        """In `history`, each copy becomes what the one before it was before this phase."""
        for copy in range(self.rules.num_copies - 1, 1, -1):
            self._put(phase, copy, self._take(phase, copy - 1))
        if self.rules.num_copies > 1:
            self._put(phase, 1, self.snapshots["start-0"])

    def _take(self, phase: Phase, copy: int) -> checkpoints.State:
        return checkpoints.take(self.players.variables(phase, copy))

    def _put(self, phase: Phase, copy: int, state: checkpoints.State) -> None:
        checkpoints.put(self.players.variables(phase, copy), state)
