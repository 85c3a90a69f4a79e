"""Versions of G: each is measured on validation patches, and the best is the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.models.judge import MIN_PATCHES, THRESHOLD, Judge
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.training import checkpoints
from stan_ct.training.competition import Competition
from stan_ct.training.display import Display
from stan_ct.training.settings import TrainSettings
from stan_ct.training.validation import Judgement, Validation


class Versions:
    """Measures versions of G, and keeps the best in the model folder.

    A version is the state of G at the end of a G-phase, or of the run. It is saved with the D it deceives least, of those it
    trained against, and with the judge of check 2, fitted to its validation outputs and their targets; where there are too few
    patches for one, with a QC threshold that nearly all its validation outputs reach under that D.

    Args:
        settings: Settings of the run.
        config: Configuration of the model.
        seen: Slices that it is trained on.
        model: The copies.
        validation: Validation patches.
        chief: Whether this process writes.
    Attributes:
        config: Configuration of the best version.
        best: Score of the best version.
        best_number: Number of the best version; None before the first.
    """

    def __init__(
        self,
        settings: TrainSettings,
        config: ModelConfig,
        seen: TrainingSlices,
        model: Competition,
        validation: Validation,
        chief: bool,
    ) -> None:
        self._settings, self.config, self._model, self._validation, self._chief = settings, config, model, validation, chief
        self._seen = seen
        self.best = float("inf")
        self.best_number: int | None = None

    def state(self) -> dict[str, Any]:
        """The best version so far, JSON-able."""
        return {"best": self.best, "best_version": self.best_number, "qc_threshold": self.config.qc_threshold}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`state` returned."""
        self.best, self.best_number = state["best"], state["best_version"]
        self.config = replace(self.config, qc_threshold=state["qc_threshold"])

    def forget(self) -> None:
        """Takes the best version for lost: the next is kept, whatever its score."""
        self.best, self.best_number = float("inf"), None

    def keep_start(self) -> None:
        """Keeps an untrained residual G, the identity, as version 0: no model is worse on validation than its own input."""
        if self._settings.generator.residual and not self._settings.init_model:
            judgement = self._validation.of_source()
            if np.isfinite(judgement.score):
                self._keep_best(0, 0, judgement)

    def measure(self, number: int, display: Display, step: int, minutes: float, busy: float) -> None:
        """Measures the copies that train, displays their errors, and keeps the best.

        Args:
            number: Number of the version.
            display: Display of the run.
            step: Number of steps of G.
            minutes: Minutes of training.
            busy: Fraction of the time spent in steps of the networks.
        """
        with self._averaged():
            judged = {copy: self._validation(self._model, copy) for copy in self._settings.rules.trainable}
            copy = min(judged, key=lambda c: judged[c].score)
            display.version(number, step, minutes, judged, self.best, busy, self._patch(copy))
            self._keep(number, copy, judged[copy])

    def _patch(self, copy: int) -> tuple[np.ndarray, ...]:
        """Source, output and target of the first validation patch, (H, W) HU each."""
        window, source = self._validation.window, self._validation.source[:1]
        output = np.asarray(self._model.generators[copy](source, training=False))
        return tuple(window.to_hu(patch[0, ..., 0]) for patch in (source, output, self._validation.target[:1]))

    def _keep(self, number: int, copy: int, judgement: Judgement) -> None:
        if judgement.score < self.best or self.best_number is None:  # the first in any case: a run leaves a model
            self._keep_best(number, copy, judgement)

    def _keep_best(self, number: int, copy: int, judgement: Judgement) -> None:
        self.best, self.best_number = judgement.score, number
        self.config = self._save(Path(self._settings.output_dir), copy, judgement)

    def _save(self, folder: Path, copy: int, judgement: Judgement) -> ModelConfig:
        """Writes a G, the D it deceives least, and the judge, or threshold, of the real/fake check."""
        judge = self._judge(judgement)
        config = replace(self.config, qc_threshold=judgement.qc_threshold if judge is None else THRESHOLD)
        if self._chief:
            discriminator = self._model.discriminators[judgement.strictest] if self._model.discriminators else None
            save_model(folder, config, self._model.generators[copy], discriminator, self._settings.storage, judge, self._seen)
        return config

    def _judge(self, judgement: Judgement) -> Judge | None:
        """A judge that takes targets and these outputs for acceptable; None without pairs or with too few patches."""
        if self._settings.losses.unpaired:
            return None
        source, target = self._validation.hu
        return Judge.fit(source, [target, judgement.outputs]) if len(source) >= MIN_PATCHES else None

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Context in which Gs have the moving averages of their weights, if there are any."""
        model = self._model
        kept = [checkpoints.take(generator.trainable_variables) for generator in model.generators if self._settings.ema]
        for generator, optimizer, _ in zip(model.generators, model.g_optimizers, kept, strict=False):
            optimizer.finalize_variable_values(generator.trainable_variables)
        try:
            yield
        finally:
            for generator, weights in zip(model.generators, kept, strict=False):
                checkpoints.put(generator.trainable_variables, weights)
