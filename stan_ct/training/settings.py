"""What `train.py` does, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.folder import Method, ModelConfig, Storage
from stan_ct.networks.blocks import Initialization, Normalization
from stan_ct.networks.losses import LossSettings
from stan_ct.networks.precision import Precision
from stan_ct.training.phases import PhaseRules

Competing = Literal["alternating", "joint"]

FREE = {
    "records_dir",
    "output_dir",
    "max_epochs",
    "max_steps",
    "max_minutes",
    "name",
    "storage",
    "checkpoint_minutes",
    "keep_versions",
}
"""Settings that may change when a run goes on."""


@dataclass(frozen=True)
class TrainSettings:
    """What `train.py` does.

    Attributes:
        records_dir: Written by `data/make_patches.py`.
        output_dir: The model folder; checkpoints, `history.csv` and `validation.csv` lie in it too.
        name: Name of the model.
        method: `stan_ct`; `unet` trains G without D; `kernel_filter` saves the fitted front end alone;
            `histogram` matches histograms.
        competition: `alternating` phases (the paper), or `joint`: a step of D, a step of G (pix2pix).
        conditional: D sees the source beside the patch that it judges (cGAN).
        high_pass: D sees the fine detail of a patch alone.
        phases: The numbers of the competition.
        base_filters: Width of G.
        discriminator_filters: Width of D; 0 for that of G.
        normalization: Of G's hidden layers.
        use_front_end: Source slices pass the records' radial filter, where they have one, before G.
        residual: G adds its output to its input and starts as the identity.
        initialization: Where the weights of G and D start.
        hu_window: HU <-> [-1, 1].
        losses: Weights and switches of Eqs. 1 - 6.
        init_model: Folder, or name, of a model whose networks training starts from; empty: they start anew.
        batch_size: B, over all replicas.
        learning_rate: Of Adam.
        decay: The learning rate falls to 0 along a cosine while the run uses up its epochs, steps or minutes, whichever ends
            first; else it stays.
        ema: Momentum of the moving average of G's weights that is measured and saved in place of the weights; 0 for none.
        max_epochs: Passes over the training patches, counted in G's steps.
        max_steps: Steps of G, at most; 0 for no limit.
        max_minutes: Training ends after this time, over all runs that share its checkpoints; 0 for no limit.
        patience: Training ends when the validation error has not fallen for so many versions; 0 for never.
        validation_patches: Validation patches that every version is measured on, at most.
        checkpoint_minutes: Time between checkpoints.
        keep_versions: Weights of the last versions that are kept.
        precision: Of the hidden layers.
        storage: Type of the saved weights.
        seed: Of weights, order and augmentation.
        deterministic: Use TensorFlow's deterministic kernels only.
    """

    records_dir: str
    output_dir: str
    name: str = "stan-ct"
    method: Method = "stan_ct"
    competition: Competing = "alternating"
    conditional: bool = False
    high_pass: bool = False
    phases: PhaseRules = field(default_factory=PhaseRules)
    base_filters: int = 64
    discriminator_filters: int = 0
    normalization: Normalization = "none"
    use_front_end: bool = True
    residual: bool = False
    initialization: Initialization = "normal"
    hu_window: HUWindow = field(default_factory=HUWindow)
    losses: LossSettings = field(default_factory=LossSettings)
    init_model: str = ""
    batch_size: int = 8
    learning_rate: float = 1e-4
    decay: bool = False
    ema: float = 0.0
    max_epochs: int = 100
    max_steps: int = 0
    max_minutes: float = 0.0
    patience: int = 0
    validation_patches: int = 64
    checkpoint_minutes: float = 5.0
    keep_versions: int = 3
    precision: Precision = "auto"
    storage: Storage = "float32"
    seed: int = 0
    deterministic: bool = False

    def total_steps(self, epoch_batches: int) -> int:
        """Steps of G that `max_epochs` and `max_steps` allow."""
        total = self.max_epochs * epoch_batches
        return min(total, self.max_steps) if self.max_steps else total

    @property
    def phases_per_version(self) -> int:
        """G-phases after which G is measured: in joint training, whose phases are single steps, `g_phase_steps` of them."""
        return self.phases.g_phase_steps if self.competition == "joint" else 1

    @property
    def rules(self) -> PhaseRules:
        """The rules that the referee goes by: joint training is phases of one step."""
        if self.competition == "alternating":
            return self.phases
        return PhaseRules(self.phases.number, "population", 1, 1, self.phases.theta_d, self.phases.theta_g, 0, 1)

    def config(self, index: dict) -> ModelConfig:
        """The model that this trains on records with this index."""
        return ModelConfig(
            name=self.name,
            method=self.method,
            source_kernel=", ".join(index["settings"]["source_kernels"]),
            target_kernel=index["settings"]["target_kernel"],
            sharpens=index["sharpens"],
            window=self.hu_window,
            base_filters=self.base_filters,
            discriminator_filters=self.discriminator_filters or self.base_filters,
            normalization=self.normalization,
            residual=self.residual,
            spectral=self.losses.lipschitz == "spectral",
            conditional=self.conditional,
            high_pass=self.high_pass,
            front_end=FrontEnd.from_json(index["front_end"]) if self.use_front_end else None,
            sources=tuple(map(Fingerprint.from_json, index["fingerprints"]["sources"])),
            standard=Fingerprint.from_json(index["fingerprints"]["target"][0]),
        )
