"""Rows of Table 1: what is trained, and with which flags."""

from __future__ import annotations

from dataclasses import dataclass

from stan_ct.cli.train import command as train_command
from stan_ct.report.sections import slug

SOURCE, HISTOGRAM, FILTER = "source", "histogram matching", "radial filter"
BASELINE = FILTER
"""Row that the others are measured against: the best one without networks."""
GANAI, PAPER, NO_LAT, NO_FEAT = "GANai", "STAN-CT", "STAN-CT without L_lat", "STAN-CT without L_feat"
OURS, PAIRED, PHASES = "ours", "paired loss", "paired loss in phases"
SHIPPED = "the model that ships"
WITH_FILTER = " + filter"
"""End of the name of a row that has the radial filter in front."""
WITHOUT_ADVERSARIAL, WITHOUT_TEXTURE = " without adversarial part", " without texture loss"
L1_ALONE = " without either"
TWO_COPIES = " with two copies"
TRANSPOSED = " with the decoder of the paper"
"""Ends of the names of ablations."""

_NOT_COMPARED = ("records_dir", "output_dir", "name", "seed", "storage", "checkpoint_minutes")
"""Flags of a training that are no part of its recipe."""


@dataclass(frozen=True)
class Row:
    """A row of Table 1.

    Attributes:
        name: Name in the tables.
        recipe: Flags that come before those of the scale, such as the preset.
        kept: Flags that the row keeps whatever the scale says.
        seeded: Whether it is trained, so that another seed gives another model.
    """

    name: str
    recipe: tuple[str, ...]
    kept: tuple[str, ...] = ()
    seeded: bool = True

    @property
    def folder(self) -> str:
        """Name of its model folders and flag files."""
        return slug(self.name)

    def flags(self, scale: str) -> tuple[str, ...]:
        """Flags of `stan-ct train`, but for the records, the seed and the name."""
        budget = (f"--preset=reproduce/{scale}_train",) if self.seeded else ()
        return (*self.recipe, *budget, *self.kept)


def _preset(name: str) -> tuple[str]:
    return (f"--preset={name}",)


_TWO = ("--num_copies=2",)
_IN_THE_PAPER = {
    "U-Net": ("unet", ()),
    "cGAN": ("cgan", ()),
    GANAI: ("ganai", _TWO),  # its net trains against its own past, which takes a second copy
    NO_LAT: ("stan_ct_no_lat", ()),
    NO_FEAT: ("stan_ct_no_feat", ()),
    PAPER: ("authors", ()),
}
"""Row of the paper's Table 1 -> its preset, and what it keeps whatever the scale says."""


def _all_rows() -> tuple[Row, ...]:
    classical = (
        Row(HISTOGRAM, ("--method=histogram",), seeded=False),
        Row(FILTER, ("--method=kernel_filter",), seeded=False),
    )
    paper = [Row(name, _preset(preset), kept) for name, (preset, kept) in _IN_THE_PAPER.items()]
    filtered = [
        Row(name + WITH_FILTER, _preset(preset), (*kept, "--use_front_end")) for name, (preset, kept) in _IN_THE_PAPER.items()
    ]
    alone = ("--method=unet", "--feature_weight=0", "--latent_weight=0", "--num_copies=1")
    ours = (
        Row(OURS, _preset("default")),
        Row(OURS + WITHOUT_ADVERSARIAL, _preset("default"), alone),
        Row(OURS + WITHOUT_TEXTURE, _preset("default"), ("--texture_weight=0",)),
        Row(OURS + TWO_COPIES, _preset("default"), _TWO),
        Row(OURS + TRANSPOSED, _preset("default"), ("--upsampling=transposed", "--nofull_resolution")),
    )
    paired = (
        Row(PAIRED, _preset("relativistic")),
        Row(PAIRED + WITHOUT_ADVERSARIAL, _preset("relativistic"), alone),
        Row(PAIRED + WITHOUT_TEXTURE, _preset("relativistic"), ("--texture_weight=0",)),
        Row(PAIRED + L1_ALONE, _preset("relativistic"), (*alone, "--texture_weight=0")),
        Row(PAIRED + TWO_COPIES, _preset("relativistic"), _TWO),
        Row(PHASES, _preset("phases"), ("--d_phase_steps=60", "--g_phase_steps=60", "--max_rollbacks=1")),
        Row(PHASES + TWO_COPIES, _preset("phases"), ("--d_phase_steps=60", "--g_phase_steps=60", "--max_rollbacks=1", *_TWO)),
    )
    from_nothing = Row("STAN-CT with G from nothing", _preset("authors"), ("--noresidual",))
    return (*classical, *paper, *filtered, *ours, *paired, from_nothing)


ROWS = {row.name: row for row in _all_rows()}
"""Every row by name, in the order of the tables."""

TABLE_1 = (HISTOGRAM, FILTER, *_IN_THE_PAPER, OURS)
"""Rows of the detailed report: those of the paper, what needs no training, and ours."""

SMOKE_ROWS = (
    HISTOGRAM, FILTER, "U-Net", GANAI, PAPER, PAPER + WITH_FILTER, OURS, OURS + WITHOUT_ADVERSARIAL, PHASES + TWO_COPIES,
)  # fmt: skip
"""Rows of the scale `smoke`: one of each kind."""

ABLATION_ROWS = (FILTER, PAIRED, PAIRED + WITHOUT_ADVERSARIAL, PAIRED + L1_ALONE)
"""Rows of the scale `ablation`: our row, and what each of its parts brings."""


def effective_flags(flags: tuple[str, ...]) -> dict[str, str]:
    """Value of every flag of a training, by name, that makes its recipe; presets and defaults filled in."""
    command = train_command()
    command.parse(["--records_dir=-", "--output_dir=-", *flags])
    return read_flags(command.effective_flags())


def read_flags(text: str) -> dict[str, str]:
    """Name -> value of the flags in the text of a flag file; comments and what is no part of a recipe left out."""
    found = {}
    for line in text.splitlines():
        if line.startswith("--"):
            name, equals, value = line.removeprefix("--").partition("=")
            off = not equals and name.startswith("no")
            found[name.removeprefix("no") if off else name] = value if equals else str(not off).lower()
    return {name: value for name, value in sorted(found.items()) if name not in _NOT_COMPARED}


def flags_text(flags: dict[str, str]) -> str:
    """Text of a flag file; the opposite of :func:`read_flags`."""
    return "".join(f"--{name}={value}\n" for name, value in sorted(flags.items()))
