"""Which version of G is kept: each is measured on validation patches, the best is the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.training import checkpoints
from stan_ct.training.competition import Competition
from stan_ct.training.display import Display
from stan_ct.training.settings import TrainSettings
from stan_ct.training.validation import Judgement, Validation


class Versions:
    """Measures Gs; the best goes into the model folder.

    A G is kept at the end of a G-phase, or of the run, with the D that it deceives least of those that it trained against,
    and with a QC threshold that all but a few of its validation patches reach: its own judges accept what it makes.

    Args:
        settings: Of the run.
        config: Of the model.
        model: The copies.
        validation: Measures them.
        chief: Whether this process writes.
    Attributes:
        config: The best version's.
        best: Its error.
        best_number: Its number; None before the first.
    """

    def __init__(
        self, settings: TrainSettings, config: ModelConfig, model: Competition, validation: Validation, chief: bool
    ) -> None:
        self._settings, self.config, self._model, self._validation, self._chief = settings, config, model, validation, chief
        self.best, self.best_number = float("inf"), None

    def keep_start(self) -> None:
        """Keeps a residual G as it starts, version 0: the identity, as good as what it is given, unless a version beats it."""
        if self._settings.generator.residual and not self._settings.init_model:
            judgement = Judgement(self._validation.source_errors, np.zeros((0, len(self._validation.source))))
            if np.isfinite(judgement.error):
                self._keep_best(0, 0, judgement)

    def measure(self, number: int, display: Display, step: int, minutes: float, busy: float) -> None:
        """Measures the copies that train, shows what they are worth, and keeps what is to be kept.

        Args:
            number: Of the version.
            display: Shows it.
            step: Steps of G.
            minutes: Of training.
            busy: Share of the loop that was steps of the networks.
        """
        with self._averaged():
            judged = {copy: self._validation(self._model, copy) for copy in self._settings.rules.trainable}
            copy = min(judged, key=lambda c: judged[c].error)
            display.version(number, step, minutes, judged, self.best, busy, self._patch(copy))
            self._keep(number, copy, judged[copy])

    def _patch(self, copy: int) -> tuple[np.ndarray, ...]:
        """Source, output and target of the first validation patch, (H, W) HU each."""
        window, source = self._validation.window, self._validation.source[:1]
        output = np.asarray(self._model.generators[copy](source, training=False))
        return tuple(window.to_hu(patch[0, ..., 0]) for patch in (source, output, self._validation.target[:1]))

    def _keep(self, number: int, copy: int, judgement: Judgement) -> None:
        if judgement.error < self.best or self.best_number is None:  # the first in any case: a run leaves a model
            self._keep_best(number, copy, judgement)

    def _keep_best(self, number: int, copy: int, judgement: Judgement) -> None:
        self.best, self.best_number = judgement.error, number
        self.config = self._save(Path(self._settings.output_dir), copy, judgement)

    def _save(self, folder: Path, copy: int, judgement: Judgement) -> ModelConfig:
        """Writes a G, the D that it deceives least, and the threshold of the real/fake check."""
        config = replace(self.config, qc_threshold=judgement.qc_threshold)
        if self._chief:
            discriminator = self._model.discriminators[judgement.strictest] if self._model.discriminators else None
            save_model(folder, config, self._model.generators[copy], discriminator, self._settings.storage)
        return config

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """While it is entered, Gs have the moving averages of their weights, where such are kept."""
        model = self._model
        kept = [checkpoints.take(generator.trainable_variables) for generator in model.generators if self._settings.ema]
        for generator, optimizer, _ in zip(model.generators, model.g_optimizers, kept, strict=False):
            optimizer.finalize_variable_values(generator.trainable_variables)
        try:
            yield
        finally:
            for generator, weights in zip(model.generators, kept, strict=False):
                checkpoints.put(generator.trainable_variables, weights)
