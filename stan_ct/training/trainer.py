"""Records in, model folder out: the training loop, with exact resume, on one process or many.

A loop of its own rather than `model.fit`, which Keras does not support across workers (keras#20585), and which cannot resume
within an epoch; on one process `fit` with :class:`~stan_ct.training.referee.PhaseReferee` gives the same weights.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stan_ct.errors import StanCTError, UsageError
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.patches.dataset import read_index
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.training import checkpoints
from stan_ct.training.competition import Competition
from stan_ct.training.display import Display
from stan_ct.training.history import TERMS
from stan_ct.training.models import CLASSICAL, classical, competition, record, seen_slices
from stan_ct.training.phases import Referee
from stan_ct.training.referee import PhaseReferee
from stan_ct.training.resume import check_counters, check_own_model, check_same_run, lost_model, run_identity
from stan_ct.training.settings import TrainSettings
from stan_ct.training.stopping import Signals
from stan_ct.training.strategy import check_batch, choose_strategy, is_chief, mean_over_workers
from stan_ct.training.stream import Stream
from stan_ct.training.validation import Metric, Validation, absolute_error
from stan_ct.training.versions import Versions

CHECKPOINT = "checkpoints/last"


class Diverged(StanCTError, ValueError):
    """A loss is no longer finite."""


def train(settings: TrainSettings, metric: Metric = absolute_error, flags: str = "") -> ModelConfig:
    """Trains a model and writes its folder; goes on from the checkpoint in that folder.

    Args:
        settings: Settings of the run.
        metric: Error by which versions are compared on the validation patches.
        flags: Flag file contents, written to `train.flags` once the inputs have been validated.
    Raises:
        FileNotFoundError: If there are no records.
        UsageError: If the records are not what the settings need, or the checkpoint is one of other settings.
        Diverged: If a loss is not finite; the last checkpoint stays.
        Stopped: After SIGTERM.
    """
    index = read_index(settings.records_dir)
    config = settings.config(index)
    if settings.method in CLASSICAL:
        if checkpoints.read_counters(Path(settings.output_dir) / CHECKPOINT) is not None:
            raise UsageError(f"{settings.output_dir} holds a run that trains networks: choose another --output_dir")
        config = classical(settings, config, index)
        check_own_model(Path(settings.output_dir), settings, config.training)
        save_model(settings.output_dir, config, slices=seen_slices(settings, index))
        _leave(settings, flags)
        return config
    for split in ("train", "validation"):
        if not index["patches"].get(split):
            raise UsageError(f"{settings.records_dir} holds no {split} patches: make records of more slices")
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    strategy = choose_strategy()
    check_batch(strategy, settings.batch_size)
    # It fails on the gradients of leaky ReLUs, and says so at every step that is compiled.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    with strategy.scope():
        model = competition(settings, config)
    filtered = config.front_end is not None
    shown = (settings.losses.mask_losses, config.generator.adjacent_slices)
    validation = Validation(
        settings.records_dir,
        settings.hu_window,
        settings.validation_patches,
        metric,
        filtered,
        *shown,
        settings.losses.unpaired,
    )
    config = replace(config, training=record(settings, index))
    run = _Run(settings, config, seen_slices(settings, index), strategy, model, validation)
    if run.chief:
        _leave(settings, flags)
    run.go()
    return run.versions.config


def _leave(settings: TrainSettings, flags: str) -> None:
    """The effective flags beside the result."""
    if flags:
        Path(settings.output_dir).mkdir(parents=True, exist_ok=True)
        (Path(settings.output_dir) / "train.flags").write_text(flags)


class _Run:
    """One run: everything that changes while it lasts."""

    def __init__(
        self,
        settings: TrainSettings,
        config: ModelConfig,
        seen: TrainingSlices,
        strategy: tf.distribute.Strategy,
        model: Competition,
        validation: Validation,
    ) -> None:
        self.settings, self.strategy, self.model, self.validation = settings, strategy, model, validation
        self.folder, self.chief = Path(settings.output_dir), is_chief(strategy)
        self.versions = Versions(settings, config, seen, model, validation, self.chief)
        self._identity = run_identity(settings)
        self.phases = PhaseReferee(settings.rules)
        self.phases.set_model(model)
        self.step, self.position, self.seconds = 0, 0, 0.0
        self._rows = {"history": 0, "validation": 0}
        self._loop = np.zeros(2)  # seconds of the loop, and of the networks' steps in it
        self._resume()

    def go(self) -> None:
        """Trains until epochs, steps or minutes are used up."""
        settings, filtered = self.settings, self.versions.config.front_end is not None
        source = (self.strategy, settings.records_dir, settings.hu_window, settings.batch_size, settings.seed)
        stream = Stream(*source, self.position, filtered, settings.generator.adjacent_slices)
        networks, folder = (len(self.model.generators), len(self.model.discriminators)), self.folder if self.chief else None
        start = self.validation.of_source()
        self.display = Display(folder, networks, start.errors, self._rows, settings.batch_size, start.quality)
        self._saved_at, before, started = time.monotonic(), self.seconds, time.monotonic()
        try:
            with Signals() as signals:
                while (used := self._used(settings.total_steps(stream.epoch_batches))) < 1:
                    if settings.lr_schedule == "cosine":
                        self._set_learning_rate(used)
                    self._one_step(stream)
                    self.display.bar(used, self.seconds)
                    self.seconds = before + time.monotonic() - started
                    if self._agreed(signals.received > 0):
                        self._checkpoint()
                        raise signals.stop()
                    if time.monotonic() - self._saved_at > 60 * settings.checkpoint_minutes:
                        self._checkpoint()
            self._checkpoint()  # before G is measured within a phase: a run with more epochs goes on as if it had not ended
            if self._unmeasured:
                self._measure_version(self.version + 1)
        finally:
            self.display.close()

    @property
    def version(self) -> int:
        """Number of complete versions of G."""
        return self.phases.referee.version // self.settings.phases_per_version

    @property
    def _unmeasured(self) -> bool:
        """Whether G may have trained since it was measured."""
        referee = self.phases.referee
        within = referee.version % self.settings.phases_per_version or (referee.phase == "g" and referee.step + referee.attempt)
        return bool(self.version == 0 or within or self.versions.best_number is None)

    def _used(self, total: int) -> float:
        """Fraction of the run's steps, or of its minutes, that is used up, whichever is more; equal in all processes."""
        minutes = self.settings.max_minutes
        return max(self.step / total, mean_over_workers(self.strategy, self.seconds / (60 * minutes)) if minutes else 0.0)

    def _set_learning_rate(self, used: float) -> None:
        """Half a cosine from the first step to the end of the run."""
        settings, falling = self.settings, (1 + math.cos(math.pi * used)) / 2
        for optimizers, rate in (
            (self.model.g_optimizers, settings.learning_rate),
            (self.model.d_optimizers, settings.discriminator_learning_rate or settings.learning_rate),
        ):
            for optimizer in optimizers:
                optimizer.learning_rate = rate * falling

    def _agreed(self, wish: bool) -> bool:
        """Whether any process wishes so: all of them must make the same steps."""
        return mean_over_workers(self.strategy, float(wish)) > 0

    def _one_step(self, stream: Stream) -> None:
        """A batch, the step of the copies whose turn it is, and what the referee makes of it."""
        referee, phase, copy, version = self.phases.referee, self.model.phase, self.model.active[0], self.version
        marks: dict[str, Any] = {"phase": phase, "phases": referee.phases, "attempt": referee.attempt, "version": version}
        self.phases.on_train_batch_begin(self.position)
        waited = time.monotonic()
        batch, began = next(stream), time.monotonic()
        row = {name: float(value.numpy()) for name, value in self.model.run_step(batch).items()}
        in_step = time.monotonic() - began
        self.position = stream.position
        self.step += phase == "g"
        self._refuse_broken(phase, row)
        self.phases.on_train_batch_end(self.position, row)
        marks["ended"] = self.phases.verdict.ended
        if marks["ended"] and (self.settings.competition == "alternating" or self.version > version):
            row |= self.validation.accuracy(self.model)
        self._show(marks, copy, row)
        self._loop += time.monotonic() - waited, in_step
        if self.version > version:
            self._measure_version(self.version)

    def _show(self, marks: dict[str, Any], copy: int, row: dict[str, float]) -> None:
        """Writes a step to the tables, and now and then the validation patches' latent loss and the learning rate."""
        terms, more = {name: row[name] for name in TERMS if name in row}, {}
        if self.display.due:
            row = {**row, "latent_validation": self.validation.latent(self.model)}
            optimizers = self.model.d_optimizers if marks["phase"] == "d" else self.model.g_optimizers
            more["learning_rate"] = float(tf.convert_to_tensor(optimizers[copy].learning_rate))
        self.display.step(self.step, self.position, marks, terms, row, **more)

    def _refuse_broken(self, phase: str, row: dict[str, float]) -> None:
        broken = ", ".join(name for name, value in row.items() if not math.isfinite(value))
        if broken:
            raise Diverged(
                f"step {self.step} of G, {phase.upper()}-phase, batch {self.position}: {broken} not finite. The best model and "
                "the last checkpoint are as they were; a new run with a lower --learning_rate or --precision=float32 may help"
            )

    def _measure_version(self, version: int) -> None:
        busy = float(self._loop[1] / self._loop[0]) if self._loop[0] else 1.0
        self.versions.measure(version, self.display, self.step, self.seconds / 60, busy)

    def _resume(self) -> None:
        """Goes on from the checkpoint, if there is one; else what G starts from is the first to be kept."""
        counters = checkpoints.read_counters(self.folder / CHECKPOINT)
        position = counters.get("position", 0) if counters else 0
        if self._agreed(mean_over_workers(self.strategy, position) != position):
            raise UsageError(f"not every process finds the same checkpoint: {self.folder} must be on a disk that all share")
        if counters is None:
            check_own_model(self.folder, self.settings, self.versions.config.training)
            self.versions.keep_start()
            return
        check_counters(self.folder, counters)
        check_same_run(self.folder, counters["settings"], self._identity)
        snapshots = checkpoints.restore(self.folder / CHECKPOINT, self.phases.players)
        self.phases.resume(Referee.from_state(counters["referee"]), snapshots)
        self.step, self.position, self.seconds = (counters[name] for name in ("step", "position", "seconds"))
        self._rows = counters["rows"]
        self.versions.resume(counters)
        if counters["best_version"] is not None and (lost := lost_model(self.folder)):
            print(f"train: the best version so far is lost, the next takes its place: {lost}", file=sys.stderr)
            self.versions.forget()

    def _checkpoint(self) -> None:
        if self.chief:
            self.display.flush()
            counters = {
                "step": self.step,
                "position": self.position,
                "seconds": self.seconds,
                **self.versions.state(),
                "referee": self.phases.referee.state(),
                "rows": self.display.rows,
                "settings": self._identity,
            }
            checkpoints.save(self.folder / CHECKPOINT, self.phases.players, self.phases.snapshots, counters)
        self._saved_at = time.monotonic()
