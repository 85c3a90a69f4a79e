"""Source and synthesized image against the target in one call: :func:`compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stan_ct.evaluation.statistics.agreement import concordance
from stan_ct.features.errors import HUError, hu_error, relative_error, summarize
from stan_ct.features.glcm import FEATURES, Discretization
from stan_ct.features.texture import texture_features

MIN_SLICES = 3
"""Least number of slices with a concordance: the features of two slices agree or disagree by chance."""


@dataclass(frozen=True)
class ImageAgreement:
    """Agreement of an image with the target.

    Attributes:
        texture_errors: Feature -> relative error (Eq. 8), mean over the slices; NaN if undefined in all of them.
        concordance: Feature -> Lin's concordance correlation coefficient over the slices, in [-1, 1]; NaN if fewer than
            `MIN_SLICES` slices have the feature, or it is the same in all of them.
        hu: Mean absolute, root mean squared and mean difference from the target, HU.
    """

    texture_errors: Mapping[str, float]
    concordance: Mapping[str, float]
    hu: HUError


class Comparison(NamedTuple):
    """Agreement of the source with the target, and of the synthesized image."""

    source: ImageAgreement
    synthesized: ImageAgreement


def compare(
    source: np.ndarray,
    synthesized: np.ndarray,
    target: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    discretization: Discretization | None = None,
) -> Comparison:
    r"""Compares source and synthesized image with the target: how far standardization went.

    For each of the five texture features :math:`\phi` (:func:`~stan_ct.features.texture.texture_features`) of each slice, the
    error is :math:`|\phi(I) - \phi(I_{target})| / |\phi(I_{target})|` (paper Eq. 8). The errors are averaged over the slices.

    Args:
        source: Source image, a slice (H, W), a volume or patches (Z, H, W), HU.
        synthesized: Standardized source, HU, same shape.
        target: Image of the same anatomy in the standard protocol, HU, same shape and position.
        mask: Pixels to compare, bool of the same shape; by default all.
        discretization: Map from HU to gray levels; by default 256 levels over [-1000, 900] HU.
    Returns:
        The agreement of both images with the target.
    Raises:
        ValueError: If the shapes differ, or a pixel to compare is NaN.
    Example:
        Stripes of 0 and 100 HU, made as strong as the target's of 0 and 200 HU.

        >>> source, target = np.array([[0, 100] * 2] * 4), np.array([[0, 200] * 2] * 4)
        >>> found = compare(source, target, target, discretization=Discretization(levels=4, bin_width=100, low=0))
        >>> found.source.texture_errors["contrast"], found.synthesized.texture_errors["contrast"]  # |0.75 - 3| / 3, 0
        (0.75, 0.0)
        >>> found.source.hu.mae, found.synthesized.hu.rmse  # half of the pixels differ by 100 HU; none
        (50.0, 0.0)
    """
    images = {"source": source, "synthesized": synthesized, "target": target}
    shapes = {name: np.shape(image) for name, image in images.items()} | ({} if mask is None else {"mask": np.shape(mask)})
    if len(set(shapes.values())) != 1 or len(shapes["source"]) not in (2, 3):
        raise ValueError(f"expected slices (H, W) or volumes (Z, H, W) of one shape, got {shapes}")
    features = {name: _features(image, mask, discretization) for name, image in images.items()}
    return Comparison(*(_agreement(images, features, name, mask) for name in ("source", "synthesized")))


def _features(hu: np.ndarray, mask: np.ndarray | None, discretization: Discretization | None) -> np.ndarray:
    """The five features of every slice, (Z, 5)."""
    height, width = np.shape(hu)[-2:]
    slices = np.reshape(hu, (-1, height, width))
    masks = [None] * len(slices) if mask is None else list(np.reshape(mask, (-1, height, width)))
    found = (
        texture_features(image, mask=part, discretization=discretization) for image, part in zip(slices, masks, strict=True)
    )
    return np.array([[values[name] for name in FEATURES] for values in found])


def _agreement(
    images: Mapping[str, np.ndarray], features: Mapping[str, np.ndarray], name: str, mask: np.ndarray | None
) -> ImageAgreement:
    errors = relative_error(features[name], features["target"])
    return ImageAgreement(
        texture_errors={feature: summarize(column).mean for feature, column in zip(FEATURES, errors.T, strict=True)},
        concordance={
            feature: _concordance(*columns)
            for feature, *columns in zip(FEATURES, features[name].T, features["target"].T, strict=True)
        },
        hu=hu_error(images[name], images["target"], mask),
    )


def _concordance(image: np.ndarray, target: np.ndarray) -> float:
    """Concordance over the slices that have the feature in both."""
    both = ~np.isnan(image + target)
    return float(concordance(image[both], target[both])) if both.sum() >= MIN_SLICES else float("nan")
