"""Configuration of a trained model: everything but the weights; plain Python, so that reading it loads no Keras."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from stan_ct.ct.hounsfield import HUWindow
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
            ValueError: If it is neither.
        """
        from stan_ct.ct.filters import FrontEnd
        from stan_ct.ct.fingerprint import Fingerprint

        try:
            values = _upgraded(json.loads(text))
            if values["method"] not in get_args(Method):
                raise TypeError(f"method {values['method']!r}")
            return cls(
                **values
                | {
                    "hu_window": HUWindow(**values["hu_window"]),
                    "generator": GeneratorConfig(**values["generator"]),
                    "discriminator": DiscriminatorConfig(**values["discriminator"]),
                    "front_end": FrontEnd.from_json(values["front_end"]),
                    "sources": tuple(map(Fingerprint.from_json, values.get("sources", ()))),
                    "standard": Fingerprint.from_json(values["standard"]) if values.get("standard") else None,
                    "histogram": tuple(values.get("histogram", ())),
                }
            )
        except (AttributeError, TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"not a model configuration of this version: {error}") from error


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Values of `config.json` in the present format, without its number."""
    if not isinstance(values, dict):
        raise TypeError(f"{type(values).__name__} in place of an object")
    values = dict(values)
    number = values.pop("format", 1)
    if number not in (1, FORMAT):
        raise TypeError(f"format {number}, this version reads formats up to {FORMAT}")
    if number == 1:
        generator = {name: values.pop(name) for name in ("base_filters", "normalization", "residual")}
        discriminator = {name: values.pop(name) for name in ("spectral", "conditional", "high_pass")}
        discriminator["base_filters"] = values.pop("discriminator_filters")
        values |= {"hu_window": values.pop("window"), "generator": generator, "discriminator": discriminator}
    # Models made before the switch existed have the paper's decoder.
    generator = {"upsampling": "transposed", "full_resolution": False, **values["generator"]}
    return values | {"generator": generator}
