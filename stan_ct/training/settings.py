"""Settings of a training run, from which the flags of `train.py` are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.config import Method, ModelConfig, Storage
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, Initialization, LossSettings
from stan_ct.networks.precision import Precision
from stan_ct.options import check, option
from stan_ct.training.phases import PhaseRules

if TYPE_CHECKING:
    from stan_ct.ct.fingerprint import Fingerprint

Competing = Literal["alternating", "joint"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run.

    Attributes:
        records_dir: Patch records.
        output_dir: Model folder; checkpoints, `history.csv` and `validation.csv` lie in it too.
        name: Name of the model.
        method: `stan_ct`; `unet` trains G without D; `kernel_filter` saves the fitted front end alone; `histogram` matches
            histograms.
        init_model: Folder, or name, of a model whose networks training starts from; empty: they start anew.
        use_front_end: Whether source slices pass the records' radial filter, if there is one, before G.
        generator: Architecture of G.
        discriminator: Architecture of D.
        initialization: Distribution from which the weights of G and D start.
        competition: `alternating` phases (the paper), or `joint`: a step of D, a step of G (pix2pix).
        phases: Rules of the competition.
        losses: Weights and switches of Eqs. 1 - 6.
        batch_size: B, over all replicas.
        learning_rate: Learning rate of Adam.
        discriminator_learning_rate: Learning rate of the Ds; 0 for that of the Gs.
        lr_schedule: `constant`, or `cosine`: the rate falls to 0 along half a cosine while the run uses up its epochs, steps or
            minutes, whichever ends first.
        ema: Momentum of the moving average of G's weights that is measured and saved in place of the weights; 0 for none.
        max_epochs: Passes over the training patches, counted in G's steps.
        max_steps: Steps of G, at most; 0 for no limit.
        max_minutes: Minutes of training over all runs that share its checkpoints; 0 for no limit.
        validation_patches: Number of validation patches on which versions are compared, at most; 0 for all.
        checkpoint_minutes: Time between checkpoints, minutes.
        precision: Number type of the hidden layers.
        storage: Number type of the saved weights.
        seed: Seed of weights, order and augmentation.
        deterministic: Whether only TensorFlow's deterministic kernels are used.
        hu_window: HU <-> [-1, 1].
    Raises:
        UsageError: If a value is out of its range.
    """

    records_dir: str = option(help="Patch records.", may_change=True)
    output_dir: str = option(help="Model folder to write.", may_change=True)
    name: str = option("stan-ct", help="Name of the model.", may_change=True)
    method: Method = option("stan_ct", help="GAN, generator alone (unet), or a classical baseline.")
    init_model: str = option("", help="Model folder, or name of one that ships, to start from (fine-tuning).")
    use_front_end: bool = option(True, help="Sources pass the records' radial filter, if there is one, before the generator.")
    batch_size: int = option(8, help="Patches in a batch, over all GPUs.", minimum=1)
    learning_rate: float = option(3e-4, help="Learning rate of Adam.", minimum=0)
    discriminator_learning_rate: float = option(
        0.0, help="Learning rate of the discriminators; 0: as the generators.", minimum=0
    )
    lr_schedule: Schedule = option("constant", help="Learning rate over the run: constant, or half a cosine down to 0.")
    max_epochs: int = option(100, help="Passes over the training patches, in G's steps.", minimum=1, may_change=True)
    max_steps: int = option(0, help="Stop after this many steps of G; 0: no limit.", minimum=0, may_change=True)
    max_minutes: float = option(0.0, help="Stop after this many minutes of training; 0: no limit.", minimum=0, may_change=True)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    initialization: Initialization = option("he", help="Start of the weights: N(0, 0.02) (normal) or He's.")
    competition: Competing = option("alternating", help="Phases, or a step of D and a step of G in turn (pix2pix).")
    phases: PhaseRules = field(default_factory=PhaseRules)
    losses: LossSettings = field(default_factory=LossSettings)
    ema: float = option(
        0.98, help="Momentum of the moving average of G's weights that is saved; 0: none.", minimum=0, maximum=0.99999
    )
    validation_patches: int = option(200, help="Validation patches on which versions are compared; 0: all.", minimum=0)
    checkpoint_minutes: float = option(5.0, help="Minutes between checkpoints.", minimum=0, may_change=True)
    precision: Precision = option("auto", help="Number type of the hidden layers.")
    storage: Storage = option("float16", help="Number type of the saved weights.", may_change=True)
    seed: int = option(0, help="Seed of weights, order and augmentation.")
    deterministic: bool = option(False, help="Deterministic kernels only; slower.")
    hu_window: HUWindow = field(default_factory=HUWindow)

    def __post_init__(self) -> None:
        check(self)

    def fixed(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with, by name."""
        free = {each.name for each in fields(self) if each.metadata.get("may_change")}
        return {name: value for name, value in asdict(self).items() if name not in free}

    def total_steps(self, epoch_batches: int) -> int:
        """Steps of G that `max_epochs` and `max_steps` allow, with so many batches to an epoch."""
        total = self.max_epochs * epoch_batches
        return min(total, self.max_steps) if self.max_steps else total

    @property
    def phases_per_version(self) -> int:
        """G-phases after which G is measured: in joint training, whose phases are single steps, `g_phase_steps` of them."""
        return self.phases.g_phase_steps if self.competition == "joint" else 1

    @property
    def rules(self) -> PhaseRules:
        """The referee's rules: those of the phases, or in joint training phases of one step."""
        if self.competition == "alternating":
            return self.phases
        single = {"d_phase_steps": 1, "g_phase_steps": 1, "max_rollbacks": 0, "averaging_batches": 1}
        return replace(self.phases, opponents="population", **single)

    def _fingerprint(self, values: dict[str, Any]) -> Fingerprint:
        """Fingerprint of a source; how far its slices lie apart matters to a generator that sees several."""
        from stan_ct.ct.fingerprint import Fingerprint

        found = Fingerprint.from_json(values)
        return found if self.generator.adjacent_slices else replace(found, slice_spacing=(0.0, 0.0))

    def config(self, index: dict[str, Any]) -> ModelConfig:
        """Configuration of the model that is trained on records with this index."""
        from stan_ct.ct.filters import FrontEnd
        from stan_ct.ct.fingerprint import Fingerprint

        filters = self.discriminator.base_filters or self.generator.base_filters
        return ModelConfig(
            name=self.name,
            method=self.method,
            source_kernel=", ".join(index["settings"]["source_kernels"]),
            target_kernel=index["settings"]["target_kernel"],
            target_thickness=index["settings"].get("target_thickness", 0.0),
            sharpens=index["sharpens"],
            hu_window=self.hu_window,
            generator=self.generator,
            discriminator=replace(self.discriminator, base_filters=filters),
            front_end=FrontEnd.from_json(index["front_end"]) if self.use_front_end else None,
            sources=tuple(map(self._fingerprint, index["fingerprints"]["sources"])),
            standard=replace(Fingerprint.from_json(index["fingerprints"]["target"][0]), slice_spacing=(0.0, 0.0)),
        )
