"""Configuration of a trained model: everything but the weights; plain Python, so that reading it loads no Keras."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.models.plausible import check_plausible
from stan_ct.models.typed import typed
from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, Initialization

if TYPE_CHECKING:
    from stan_ct.ct.filters import FrontEnd
    from stan_ct.ct.fingerprint import Fingerprint
    from stan_ct.networks.discriminator import Discriminator
    from stan_ct.networks.generator import Generator

FORMAT = 2
"""Layout of `config.json`; format 1, without a number and with the networks' fields at the top level, is read too."""

Method = Literal["stan_ct", "unet", "kernel_filter", "histogram"]
Storage = Literal["float32", "float16"]


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights.

    Attributes:
        name: Name of the model.
        method: `stan_ct`; `unet`, a generator without discriminator; `kernel_filter`, the front end alone; `histogram`,
            histogram matching.
        source_kernel: Kernel, or kernels separated by commas, that it standardizes.
        target_kernel: Kernel of the standard protocol.
        sharpens: Whether the target kernel is the sharper one.
        hu_window: HU <-> [-1, 1].
        generator: Architecture of G.
        discriminator: Architecture of D.
        front_end: Radial filters that are applied to whole slices first, or None.
        sources: Fingerprints of the series it was made for, one for each source kernel; empty if not known.
        standard: Fingerprint of the standard protocol; None if not known.
        histogram: Quantiles of target patches, HU, for `histogram`.
        qc_threshold: P(real) below which a synthesized patch is not qualified.
        target_thickness: Slice thickness of the standard protocol, mm, for a model that changes it; 0: the source's stays.
        training: Settings, data and versions of the training run, for the record.
    """

    name: str
    method: Method
    source_kernel: str
    target_kernel: str
    sharpens: bool
    hu_window: HUWindow = field(default_factory=HUWindow)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    front_end: FrontEnd | None = None
    sources: tuple[Fingerprint, ...] = ()
    standard: Fingerprint | None = None
    histogram: tuple[float, ...] = ()
    qc_threshold: float = 0.99
    target_thickness: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)

    def build_generator(self, compute_dtype: str = "float32", initialization: Initialization = "normal") -> Generator:
        """A new generator of this architecture."""
        from stan_ct.networks.generator import build_generator

        return build_generator(self.generator, initialization, compute_dtype)

    def build_discriminator(self, compute_dtype: str = "float32", initialization: Initialization = "normal") -> Discriminator:
        """A new discriminator of this architecture."""
        from stan_ct.networks.discriminator import build_discriminator

        return build_discriminator(self.discriminator, initialization, compute_dtype)

    def to_json(self) -> str:
        """Text of `config.json`: one line a key, however long its value."""
        front_end = self.front_end.to_json() if self.front_end else {}
        values = {"format": FORMAT, **asdict(self), "front_end": front_end}
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """The configuration of which :meth:`to_json` is the text, or one of format 1.

        Raises:
            ValueError: If it is neither, or no model can have such values.
        """
        return _parsed(text)


@lru_cache(maxsize=8)  # a folder's is read for several purposes
def _parsed(text: str) -> ModelConfig:
    from stan_ct.ct.filters import FrontEnd
    from stan_ct.ct.fingerprint import Fingerprint

    types = {"FrontEnd": FrontEnd, "Fingerprint": Fingerprint}
    try:
        config: ModelConfig = typed(ModelConfig, _upgraded(json.loads(text)), "the model", types)
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"not a model configuration of this version: {error}") from error
    check_plausible(config)
    return config


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Values of `config.json` in the present format, without its number."""
    if not isinstance(values, dict):
        raise TypeError(f"{type(values).__name__} in place of an object")
    values = dict(values)
    number = values.pop("format", 1)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= FORMAT:
        raise TypeError(f"format {number!r:.40}, this version reads formats 1 to {FORMAT}: install a later STAN-CT")
    if number == 1:
        generator = {name: values.pop(name) for name in ("base_filters", "normalization", "residual")}
        discriminator = {name: values.pop(name) for name in ("spectral", "conditional", "high_pass")}
        discriminator["base_filters"] = values.pop("discriminator_filters")
        values |= {"hu_window": values.pop("window"), "generator": generator, "discriminator": discriminator}
    # Models made before the switch existed have the paper's decoder.
    generator = {"upsampling": "transposed", "full_resolution": False, "adjacent_slices": 0, **values["generator"]}
    complete = {"hu_window": HUWindow, "generator": GeneratorConfig, "discriminator": DiscriminatorConfig}
    for name, kind in complete.items():
        given = generator if name == "generator" else values[name]
        if lacking := sorted({each.name for each in fields(kind)} - {*given}):
            raise KeyError(f"{name}.{lacking[0]}")
    front_end = {"filters": values["front_end"]} if values["front_end"] else None
    return values | {"generator": generator, "front_end": front_end, "standard": values.get("standard") or None}
