"""Records in, model folder out: the training loop, first form (one G, one D, alternating phases)."""

from __future__ import annotations

import csv
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from stan_ct import __version__
from stan_ct.ct.filters import RadialFilter
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.networks.blocks import Initialization, Normalization
from stan_ct.networks.discriminator import p_real
from stan_ct.networks.losses import LossSettings
from stan_ct.networks.model_folder import Method, ModelConfig, Storage, save_model
from stan_ct.networks.precision import Precision, compute_dtype
from stan_ct.patches.dataset import read_index, read_patches
from stan_ct.training.competition import Competition

WON_AFTER = 20
"""Batches over which P(real) is averaged to decide that a phase is won."""
QC_QUANTILE = 0.01
"""The QC threshold rejects this share of the patches which G makes of validation patches."""


@dataclass(frozen=True)
class TrainSettings:
    """What `train.py` does.

    Attributes:
        records_dir: Written by `data/make_patches.py`.
        output_dir: The model folder; checkpoints and `history.csv` lie in it too.
        name: Name of the model.
        method: `stan_ct`, or `kernel_filter` to save the fitted front end alone.
        base_filters: Width of G.
        discriminator_filters: Width of D; 0 for that of G.
        normalization: Of G's hidden layers.
        residual: G adds its output to its input and starts as the identity.
        initialization: Where the weights of G and D start.
        window: HU <-> [-1, 1].
        losses: Weights and switches of Eqs. 1 - 6.
        batch_size: B, over all replicas.
        learning_rate: Of Adam.
        max_epochs: Passes over the training patches, counted in G's steps.
        max_minutes: Training ends after this time; 0 for no limit.
        d_phase_steps: A D-phase ends after this many steps at the latest (t_max).
        g_phase_steps: The same for a G-phase.
        theta_d: A D-phase is won when P(real | G(x')) < 1 - theta_d and P(real | x) > theta_d.
        theta_g: A G-phase is won when P(real | G(x')) > theta_g.
        precision: Of the hidden layers.
        storage: Type of the saved weights.
        seed: Of weights, shuffling and augmentation.
    """

    records_dir: str
    output_dir: str
    name: str = "stan-ct"
    method: Method = "stan_ct"
    base_filters: int = 64
    discriminator_filters: int = 0
    normalization: Normalization = "none"
    residual: bool = False
    initialization: Initialization = "normal"
    window: HUWindow = field(default_factory=HUWindow)
    losses: LossSettings = field(default_factory=LossSettings)
    batch_size: int = 8
    learning_rate: float = 1e-4
    max_epochs: int = 100
    max_minutes: float = 0.0
    d_phase_steps: int = 100
    g_phase_steps: int = 100
    theta_d: float = 0.99
    theta_g: float = 0.99
    precision: Precision = "auto"
    storage: Storage = "float32"
    seed: int = 0


def train(settings: TrainSettings) -> ModelConfig:
    """Trains a model and writes its folder; goes on from the last checkpoint in that folder.

    Raises:
        FileNotFoundError: If there are no records.
    """
    index = read_index(settings.records_dir)
    front_end = RadialFilter(**{k: tuple(v) for k, v in index["front_end"].items()}) if index["front_end"] else None
    config = ModelConfig(
        name=settings.name,
        method=settings.method,
        source_kernel=", ".join(index["settings"]["source_kernels"]),
        target_kernel=index["settings"]["target_kernel"],
        sharpens=index["sharpens"],
        window=settings.window,
        base_filters=settings.base_filters,
        discriminator_filters=settings.discriminator_filters or settings.base_filters,
        normalization=settings.normalization,
        residual=settings.residual,
        spectral=settings.losses.lipschitz == "spectral",
        front_end=front_end,
    )
    if settings.method == "kernel_filter":
        if front_end is None:
            raise ValueError("kernel_filter needs records made with --front_end=amplitude or --front_end=wiener")
        config = _with_record(config, settings, index, qc_threshold=0.0)
        save_model(settings.output_dir, config)
        return config
    for split, patches in index["patches"].items():
        if not patches:
            raise ValueError(f"{settings.records_dir} holds no {split} patches: make records of more slices")
    keras.utils.set_random_seed(settings.seed)
    strategy = tf.distribute.MirroredStrategy()
    with strategy.scope():
        dtype = compute_dtype(settings.precision)
        networks = (make(dtype, settings.initialization) for make in (config.generator, config.discriminator))
        model = Competition(*networks, settings.losses, settings.learning_rate)
    _run(model, strategy, settings, index["patches"]["train"])
    threshold = calibrate_threshold(model, read_patches(settings.records_dir, "validation", settings.window, 8))
    config = _with_record(config, settings, index, qc_threshold=threshold)
    save_model(settings.output_dir, config, model.generator, model.discriminator, settings.storage)
    return config


def _with_record(config: ModelConfig, settings: TrainSettings, index: dict, qc_threshold: float) -> ModelConfig:
    versions = {"stan_ct": __version__, "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}
    flags = {k: v for k, v in asdict(settings).items() if k not in ("records_dir", "output_dir")}
    made_with = {k: v for k, v in index["settings"].items() if k not in ("input_dir", "output_dir")}
    data = {"patches": index["patches"], "slices": index["slices"], "pairs": index["pairs"], **made_with}
    record = {"settings": flags, "data": data, "versions": versions}
    return ModelConfig(**{**vars(config), "qc_threshold": qc_threshold, "training": record})


def _run(model: Competition, strategy: tf.distribute.Strategy, settings: TrainSettings, patches: int) -> None:
    """Alternates D- and G-phases until the epochs or the minutes are used up."""
    folder = Path(settings.output_dir)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    # Networks weight by weight: layers held in Python lists would be left out in silence.
    checkpoint = tf.train.Checkpoint(
        generator=[w.value for w in model.generator.weights],
        discriminator=[w.value for w in model.discriminator.weights],
        g_optimizer=model.g_optimizer,
        d_optimizer=model.d_optimizer,
        step=step,
    )
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=2)
    _same_run(folder / "checkpoints" / "run.json", settings, bool(manager.latest_checkpoint))
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    batches = iter(
        strategy.experimental_distribute_dataset(
            read_patches(
                settings.records_dir,
                "train",
                settings.window,
                settings.batch_size,
                seed=settings.seed + int(step),
                repeat=True,
            )
        )
    )
    steps = {"d": _compiled(model.d_step, strategy), "g": _compiled(model.g_step, strategy)}
    total = max(settings.max_epochs * patches // settings.batch_size, 1)
    deadline = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes else float("inf")
    with _History(folder / "history.csv", append=int(step) > 0) as history, tqdm(total=total, initial=int(step)) as bar:
        while int(step) < total and time.monotonic() < deadline:
            for phase, limit in (("d", settings.d_phase_steps), ("g", settings.g_phase_steps)):
                for logs in _phase(steps[phase], batches, phase, limit, settings):
                    if phase == "g":
                        step.assign_add(1)
                        bar.update()
                    history.write(int(step), phase, logs)
                    bar.set_postfix_str(_progress(phase, logs))
                    if int(step) >= total or time.monotonic() >= deadline:
                        break
            manager.save()


def _same_run(note: Path, settings: TrainSettings, resumes: bool) -> None:
    """Notes what determines a run beside its checkpoints, and refuses to go on with a run of other flags or records."""
    free = (
        "records_dir",
        "output_dir",
        "max_epochs",
        "max_minutes",
        "d_phase_steps",
        "g_phase_steps",
        "seed",
        "name",
        "storage",
    )
    flags = {k: v for k, v in asdict(settings).items() if k not in free}
    mine = json.dumps([flags, read_index(settings.records_dir)["patches"]], sort_keys=True)
    if resumes and note.exists() and note.read_text() != mine:
        raise ValueError(
            f"{note.parent} holds a run of other flags or records: repeat its flags, or choose another --output_dir"
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(mine)


def _phase(step, batches: Iterator, phase: str, limit: int, settings: TrainSettings) -> Iterator[dict]:
    """The steps of one phase, until it is won or `limit` is reached."""
    recent: deque[tuple[float, float]] = deque(maxlen=WON_AFTER)
    for _ in range(limit):
        logs = {name: float(value) for name, value in step(next(batches)).items()}
        yield logs
        recent.append((logs["p_real_synthesized"], logs.get("p_real_target", 1.0)))
        synthesized, target = np.mean(recent, axis=0)
        won = (
            synthesized < 1 - settings.theta_d and target > settings.theta_d if phase == "d" else synthesized > settings.theta_g
        )
        if won and len(recent) == WON_AFTER:
            return


def _compiled(step, strategy: tf.distribute.Strategy):
    """A step over all replicas, traced once; returns means over replicas."""

    @tf.function
    def run(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        logs = strategy.run(step, args=batch)
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}

    return run


def calibrate_threshold(model: Competition, batches: tf.data.Dataset) -> float:
    """P(real) which all but `QC_QUANTILE` of the patches that G makes of validation patches reach."""
    # Clipped as the pipeline does, which judges what can be written.
    made = (tf.clip_by_value(model.generator(source, training=False), -1.0, 1.0) for source, _ in batches)
    judged = [p_real(model.discriminator(patches, training=False)[1]) for patches in made]
    return round(float(np.quantile(np.concatenate(judged), QC_QUANTILE)), 6)


def _progress(phase: str, logs: dict) -> str:
    shown = ("l1", "latent", "adversarial_g") if phase == "g" else ("adversarial_d", "feature", "p_real_target")
    return f"{phase.upper()}-phase " + " ".join(f"{n} {logs[n]:.4f}" for n in (*shown, "p_real_synthesized"))


class _History:
    """`history.csv`: one row a step, every loss term in its own column."""

    COLUMNS = (
        *("step", "phase", "total_d", "adversarial_d", "feature", "penalty", "total_g", "adversarial_g", "latent", "l1"),
        *("p_real_target", "p_real_synthesized"),
    )

    def __init__(self, path: Path, append: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a" if append else "w", newline="")  # noqa: SIM115 (closed by __exit__)
        self._writer = csv.DictWriter(self._file, self.COLUMNS)
        if not append:
            self._writer.writeheader()

    def write(self, step: int, phase: str, logs: dict) -> None:
        self._writer.writerow({"step": step, "phase": phase, **{k: f"{v:.6g}" for k, v in logs.items()}})

    def __enter__(self) -> _History:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
