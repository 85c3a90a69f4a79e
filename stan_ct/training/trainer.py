"""Records in, model folder out: the loop that a referee leads through D- and G-phases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model
from stan_ct.patches.dataset import read_index
from stan_ct.training import checkpoints
from stan_ct.training.competition import Competition, full_matrix
from stan_ct.training.display import Display
from stan_ct.training.history import TERMS, history_row
from stan_ct.training.models import CLASSICAL, classical, competition, record
from stan_ct.training.phases import Referee, Verdict
from stan_ct.training.settings import TrainSettings
from stan_ct.training.stopping import Signals
from stan_ct.training.strategy import choose_strategy, is_chief, mean_over_workers
from stan_ct.training.stream import Stream
from stan_ct.training.validation import Metric, Validation, absolute_error
from stan_ct.training.versions import Versions

CHECKPOINT = "checkpoints/last"


def train(settings: TrainSettings, metric: Metric = absolute_error, flags: str = "") -> ModelConfig:
    """Trains a model and writes its folder; goes on from the checkpoint in that folder.

    Args:
        settings: See there.
        metric: By which versions are compared on the validation patches.
        flags: Text that the run, once nothing speaks against it, leaves beside its result as `train.flags`.
    Raises:
        FileNotFoundError: If there are no records.
        ValueError: If the records are not what the settings need, the checkpoint is one of other settings, or a loss is not
            finite; the last checkpoint stays.
        Stopped: After SIGTERM.
    """
    index = read_index(settings.records_dir)
    config = settings.config(index)
    if settings.method in CLASSICAL:
        config = classical(settings, config, index)
        save_model(settings.output_dir, config)
        _leave(settings, flags)
        return config
    for split in ("train", "validation"):
        if not index["patches"].get(split):
            raise ValueError(f"{settings.records_dir} holds no {split} patches: make records of more slices")
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(settings.seed)
    strategy = choose_strategy()
    # It fails on the gradients of leaky ReLUs, and says so at every step that is compiled.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    with strategy.scope():
        model = competition(settings, config)
    filtered = config.front_end is not None
    validation = Validation(
        settings.records_dir, settings.hu_window, settings.validation_patches, metric, filtered, settings.losses.mask_losses
    )
    run = _Run(settings, replace(config, training=record(settings, index)), strategy, model, validation)
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
        strategy: tf.distribute.Strategy,
        model: Competition,
        validation: Validation,
    ) -> None:
        self.settings, self.strategy, self.model, self.validation = settings, strategy, model, validation
        self.folder, self.chief = Path(settings.output_dir), is_chief(strategy)
        self.versions = Versions(settings, config, model, validation, self.chief)
        self.players, self.referee = checkpoints.Players(model), Referee(settings.rules, bool(model.discriminators))
        self.snapshots: dict[str, checkpoints.State] = {}
        self.step, self.position, self.seconds = 0, 0, 0.0
        self._rows = {"history": 0, "validation": 0}
        self._loop = np.zeros(2)  # seconds of the loop, and of the networks' steps in it
        self._compiled = cache(self._compile)
        self._resume()

    def go(self) -> None:
        """Trains until epochs, steps or minutes are used up."""
        stream = Stream(
            self.strategy,
            self.settings.records_dir,
            self.settings.hu_window,
            self.settings.batch_size,
            self.settings.seed,
            self.position,
            self.versions.config.front_end is not None,
        )
        total, self._saved_at, before = self.settings.total_steps(stream.epoch_batches), time.monotonic(), self.seconds
        networks, folder = (len(self.model.generators), len(self.model.discriminators)), self.folder if self.chief else None
        self.display = Display(folder, networks, self.validation.source_errors, self._rows, self.settings.batch_size)
        started = time.monotonic()
        try:
            with Signals() as signals:
                while (used := self._used(total)) < 1:
                    if self.settings.lr_schedule == "cosine":
                        self._set_learning_rate(used)
                    self._one_step(stream)
                    self.display.bar(used, self.seconds)
                    self.seconds = before + time.monotonic() - started
                    if self._agreed(signals.told > 0):
                        self._checkpoint()
                        raise signals.stop()
                    if time.monotonic() - self._saved_at > 60 * self.settings.checkpoint_minutes:
                        self._checkpoint()
            self._checkpoint()  # before G is measured within a phase: a run with more epochs goes on as if it had not ended
            if self._unmeasured:
                self._measure_version(self.version + 1)
        finally:
            self.display.close()

    @property
    def version(self) -> int:
        """Versions of G that are complete."""
        return self.referee.version // self.settings.phases_per_version

    @property
    def _unmeasured(self) -> bool:
        """Whether G may have trained since it was measured."""
        referee = self.referee
        within = referee.version % self.settings.phases_per_version or (referee.phase == "g" and referee.step + referee.attempt)
        return bool(self.version == 0 or within)

    def _used(self, total: int) -> float:
        """Share of the run's steps, or of its minutes, that is used up, whichever is more; all processes agree."""
        minutes = self.settings.max_minutes
        return max(self.step / total, mean_over_workers(self.strategy, self.seconds / (60 * minutes)) if minutes else 0.0)

    def _set_learning_rate(self, used: float) -> None:
        """Half a cosine from the first step to the end of the run."""
        rate = self.settings.learning_rate * (1 + math.cos(math.pi * used)) / 2
        for optimizer in self.model.g_optimizers + self.model.d_optimizers:
            optimizer.learning_rate = rate

    def _agreed(self, wish: bool) -> bool:
        """Whether any process wishes so: all of them must make the same steps."""
        return mean_over_workers(self.strategy, float(wish)) > 0

    def _one_step(self, stream: Stream) -> None:
        """A batch, the referee's verdict, and what follows from it."""
        referee, (phase, active), version = self.referee, (self.referee.phase, self.referee.active), self.version
        if self._goes_back and not self.snapshots:
            self.snapshots = {f"start-{c}": checkpoints.take(self.players.variables(phase, c)) for c in referee.rules.trainable}
        marks = {"phase": phase, "phases": referee.phases, "attempt": referee.attempt, "version": version}
        waited = time.monotonic()
        batch, began = next(stream), time.monotonic()
        logs = {name: value.numpy() for name, value in self._compiled(phase, active)(batch).items()}
        in_step = time.monotonic() - began
        self.position = stream.position
        self.step += phase == "g"
        self._refuse_broken(phase, logs)
        target, synthesized = self._judged(phase, active, logs)
        verdict = referee.observe(target, synthesized)
        self._obey(phase, verdict)
        terms = {name: float(logs[name]) for name in TERMS if name in logs}
        row, more = history_row(terms, target, synthesized), {}
        if self.display.due:
            row["latent_validation"] = self.validation.latent(self.model)
            optimizers = self.model.d_optimizers if phase == "d" else self.model.g_optimizers
            more["learning_rate"] = float(tf.convert_to_tensor(optimizers[active[0]].learning_rate))
        self.display.step(self.step, self.position, marks, terms, row, **more)
        self._loop += time.monotonic() - waited, in_step
        if self.version > version:
            self._measure_version(self.version)

    @property
    def _goes_back(self) -> bool:
        """Whether the state at the start of a phase is needed again."""
        rules = self.settings.rules
        return rules.opponents == "history" or (self.referee.opponents and rules.max_rollbacks > 0)

    def _refuse_broken(self, phase: str, logs: dict) -> None:
        broken = ", ".join(name for name, value in logs.items() if not np.isfinite(value).all())
        if broken:
            raise ValueError(
                f"step {self.step} of G, {phase.upper()}-phase, batch {self.position}: {broken} not finite. The best model and "
                "the last checkpoint are as they were; a new run with a lower --learning_rate or --precision=float32 may help"
            )

    def _compile(self, phase: str, active: tuple[int, ...]) -> Callable:
        """A step of some copies over all replicas, traced once; returns means over replicas."""
        method = self.model.d_step if phase == "d" else self.model.g_step

        @tf.function
        def run(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
            logs = self.strategy.run(method, args=(*batch, active))
            return {name: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}

        return run

    def _judged(self, phase: str, active: tuple[int, ...], logs: dict) -> tuple[np.ndarray, np.ndarray]:
        """P(real) of targets (Ds,) and of what the Gs made (Ds, Gs); NaN where nobody looked."""
        shape = (len(self.model.discriminators), len(self.model.generators))
        target = full_matrix(logs["p_real_target"], active, shape[:1], 0) if phase == "d" else np.full(shape[:1], np.nan)
        return target, full_matrix(logs["p_real_synthesized"], active, shape, 0 if phase == "d" else 1)

    def _obey(self, phase: str, verdict: Verdict) -> None:
        """Keeps, rolls back and restores copies, with their optimizers' slots."""
        for copy in verdict.keep:
            self.snapshots[f"best-{copy}"] = checkpoints.take(self.players.variables(phase, copy))
        for kind, copies in (("start", verdict.roll_back), ("best", verdict.restore)):
            for copy in copies:
                checkpoints.put(self.players.variables(phase, copy), self.snapshots[f"{kind}-{copy}"])
        if verdict.ended:
            if self.settings.rules.opponents == "history":
                self._shift(phase)
            self.snapshots = {}

    def _shift(self, phase: str) -> None:
        """In `history`, each copy becomes what the one before it was before this phase."""
        for copy in range(self.settings.rules.num_copies - 1, 1, -1):
            earlier = checkpoints.take(self.players.variables(phase, copy - 1))
            checkpoints.put(self.players.variables(phase, copy), earlier)
        if self.settings.rules.num_copies > 1:
            checkpoints.put(self.players.variables(phase, 1), self.snapshots["start-0"])

    def _measure_version(self, version: int) -> None:
        busy = float(self._loop[1] / self._loop[0]) if self._loop[0] else 1.0
        self.versions.measure(version, self.display, self.step, self.seconds / 60, busy)

    def _resume(self) -> None:
        """Goes on from the checkpoint, if there is one; else what G starts from is the first to be kept."""
        counters = checkpoints.read_counters(self.folder / CHECKPOINT)
        position = counters["position"] if counters else 0
        if self._agreed(mean_over_workers(self.strategy, position) != position):
            raise ValueError(f"not every process finds the same checkpoint: {self.folder} must be on a disk that all share")
        if counters is None:
            self.versions.keep_start()
            return
        before, now = counters["settings"], self._fingerprint()
        if before != now:
            names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            raise ValueError(
                f"{self.folder} holds a run of other flags or records: repeat its flags, or choose another --output_dir "
                f"(they differ in: {', '.join(names)})"
            )
        self.snapshots = checkpoints.restore(self.folder / CHECKPOINT, self.players)
        self.referee = Referee.from_state(counters["referee"])
        self._rows = counters["rows"]
        self.step, self.position, self.seconds = (counters[name] for name in ("step", "position", "seconds"))
        self.versions.best, self.versions.best_number = counters["best"], counters["best_version"]
        self.versions.config = replace(self.versions.config, qc_threshold=counters["qc_threshold"])

    def _checkpoint(self) -> None:
        if self.chief:
            self.display.flush()
            counters = {
                "step": self.step,
                "position": self.position,
                "seconds": self.seconds,
                "best": self.versions.best,
                "best_version": self.versions.best_number,
                "qc_threshold": self.versions.config.qc_threshold,
                "referee": self.referee.state(),
                "rows": self.display.rows,
                "settings": self._fingerprint(),
            }
            checkpoints.save(self.folder / CHECKPOINT, self.players, self.snapshots, counters)
        self._saved_at = time.monotonic()

    def _fingerprint(self) -> dict[str, str]:
        """What a run that goes on must share with the one before."""
        flags = {name: repr(value) for name, value in self.settings.fixed().items()}
        return flags | {"patches of the records": repr(read_index(self.settings.records_dir)["patches"])}
