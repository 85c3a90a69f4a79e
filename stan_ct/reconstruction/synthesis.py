"""Step 2: HU patches -> standardized HU patches and P(real). The pipeline's seam to the engines that compute networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stan_ct.baselines.loading import load_baseline
from stan_ct.engines.engine import Engine, EngineName, load_engine
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import load_judge, read_config
from stan_ct.models.judge import Judge
from stan_ct.networks.precision import Precision
from stan_ct.patches.fusion import extract
from stan_ct.patches.sampling import Patch
from stan_ct.reconstruction.qualification import Synthesizer


class NetworkSynthesizer:
    """A trained generator, whose patches are judged by the judge of its folder or, without one, by its discriminator.

    Args:
        engine: What computes the networks.
        config: The model's configuration.
        judge: The model's judge, None where its discriminator judges.
    """

    def __init__(self, engine: Engine, config: ModelConfig, judge: Judge | None = None) -> None:
        self.engine, self.config, self.judge = engine, config, judge
        self.adjacent_slices = config.generator.adjacent_slices

    def prepare(self, hu: np.ndarray, pixel_spacing: tuple[float, float], kernel: str = "") -> np.ndarray:
        """The kernel front end, where the model has one: (H, W) HU -> (H, W) HU."""
        return hu if self.config.front_end is None else self.config.front_end(hu, pixel_spacing, kernel)

    def __call__(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) float32 HU, h and w multiples of 256 -> (N, h, w) float32 HU, and P(real), (N,) in [0, 1].

        A model that sees adjacent slices takes (N, h, w, C): the slice itself, then those before and after it.

        With a judge, its plausibility stands for P(real). HU above the window, which networks do not see, pass by: what is
        standardized is their part inside it.
        """
        standardized, judged = self._standardize(patches)
        return standardized, judged if self.judge is None else self.judge(_slice_itself(patches), standardized)

    def whole(self, image: np.ndarray, places: Sequence[Patch]) -> tuple[np.ndarray, np.ndarray]:
        """A slice at once, (h, w) HU, or (h, w, C) -> (h, w) HU, and P(real) of its places, (N,).

        h and w are multiples of 256, and so are the sides of places. A discriminator, which sees the slice too, judges it as a
        whole; a judge each place.
        """
        made, judged = self._standardize(image[None])
        if self.judge is None:
            return made[0], np.repeat(judged, len(places))
        source = _slice_itself(image[None])[0]
        return made[0], self.judge(extract(source, places, None), extract(made[0], places, None))

    def _standardize(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) or (N, h, w, C) HU -> (N, h, w) HU, and P(real) by the discriminator, 1 where there is none."""
        window, step = self.config.hu_window, max(1, self.engine.batch_pixels // (patches.shape[1] * patches.shape[2]))
        seen = patches if patches.ndim == 4 else patches[..., None]
        if seen.shape[-1] != self.config.generator.channels:
            raise ValueError(f"the model sees {self.config.generator.channels} slices at once, not {seen.shape[-1]}")
        gray, patches = window.to_network(seen), _slice_itself(patches)
        parts = [self.engine(gray[i : i + step]) for i in range(0, len(gray), step)]
        synthesized, judged = (np.concatenate(part) for part in zip(*parts, strict=True))
        return window.to_hu(synthesized[..., 0]) + np.maximum(patches - window.high, 0), judged

    def explain(self, patches: np.ndarray, outputs: np.ndarray) -> list[str]:
        """What the judge finds wrong with each output, in words; nothing where there is none. (N, h, w) HU each."""
        return [""] * len(patches) if self.judge is None else self.judge.explain(patches, outputs)


def _slice_itself(patches: np.ndarray) -> np.ndarray:
    """(N, h, w), or (N, h, w, C) with adjacent slices -> (N, h, w)."""
    return patches[..., 0] if patches.ndim == 4 else patches


def load_synthesizer(
    folder: Path | str, precision: Precision = "auto", shared: bool = False, engine: EngineName = "tensorflow"
) -> Synthesizer:
    """The synthesizer of a model folder: networks, or a classical baseline.

    Args:
        folder: Model folder.
        precision: Of the hidden layers.
        shared: Whether several threads call the networks.
        engine: What computes networks, see :func:`stan_ct.engines.engine.choose_engine`.
    Raises:
        FileNotFoundError: If the folder holds no complete model.
        ValueError: If it is not one of this version.
    """
    if (baseline := load_baseline(folder)) is not None:
        return baseline
    folder, config = Path(folder), read_config(folder)
    judge = load_judge(folder)
    networks = load_engine(engine, folder, precision, config.method == "stan_ct" and judge is None, shared)
    return NetworkSynthesizer(networks, config, judge)
