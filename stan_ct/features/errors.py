"""Errors against a target: relative errors of features (Eq. 8) and their summary, HU errors, PSNR and SSIM.

Images and volumes are (H, W) or (Z, H, W), HU. Masks are bool of the same shape, True for pixels to compare; None compares all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.features.glcm import FEATURES, Discretization, features


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of the `n` defined errors, and the number of undefined ones.

    The mean is NaN without a defined error, the standard deviation with fewer than two.
    """

    mean: float
    sd: float
    n: int
    undefined: int


@dataclass(frozen=True)
class HUError:
    """Mean absolute, root mean squared and mean difference image - target over `pixels` pixels, HU; NaN without pixels."""

    mae: float
    rmse: float
    bias: float
    pixels: int


def relative_error(synthesized: np.ndarray, target: np.ndarray) -> np.ndarray:
    r"""Error of a feature relative to the target's, :math:`|\phi(I_{syn}) - \phi(I_{target})| / |\phi(I_{target})|`.

    Args:
        synthesized: Features of the image, any shape.
        target: Features of the target, same shape.
    Returns:
        float64 >= 0, same shape; NaN (undefined) where the target's feature is 0.
    Note:
        The paper divides by the feature itself; the magnitude keeps the error of a negative correlation positive.
    Reference: Eq. 8.
    Example:
        >>> relative_error(np.array([3.0, 1.0, -1.0]), np.array([2.0, 0.0, -2.0])).tolist()
        [0.5, nan, 0.5]
    """
    synthesized, target = np.asarray(synthesized, np.float64), np.asarray(target, np.float64)
    return np.abs(synthesized - target) / np.where(target == 0, np.nan, np.abs(target))


def five_features(patches: np.ndarray) -> np.ndarray:
    """The five features of patches at the 256 gray levels by which errors are told.

    Args:
        patches: (N, H, W) HU.
    Returns:
        (N, 5) float64 in the order of `FEATURES`; NaN where one is undefined.
    """
    discretization = Discretization.fixed_number(256)
    return np.reshape([features(patch, discretization) for patch in patches], (-1, len(FEATURES)))


def texture_errors(target: np.ndarray) -> Callable[[np.ndarray], dict[str, float]]:
    """Prepares the mean errors (Eq. 8) of the five features against target patches, by which training compares versions.

    Args:
        target: Target patches, (N, H, W) HU.
    Returns:
        Function of output patches, (N, H, W) HU, that returns feature -> mean error over the patches in which it is defined
        (flat target patches have no error of contrast and dissimilarity).
    """
    wanted = five_features(target)

    def errors(output: np.ndarray) -> dict[str, float]:
        found = relative_error(five_features(output), wanted)
        return dict(zip(FEATURES, map(float, np.nanmean(found, axis=0)), strict=True))

    return errors


def summarize(errors: np.ndarray) -> Summary:
    """Summary of errors, (N,) float64; undefined ones (NaN) are counted and not averaged."""
    defined = errors[~np.isnan(errors)]
    n = len(defined)
    mean = float(defined.mean()) if n else float("nan")
    return Summary(mean, float(defined.std(ddof=1)) if n > 1 else float("nan"), n, len(errors) - n)


def hu_error(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> HUError:
    """Differences from the target in the pixels of the mask, by default in all; ValueError if the shapes differ.

    Example:
        >>> hu_error(np.array([1.0, -3.0]), np.array([0.0, 0.0]), np.array([True, True]))
        HUError(mae=2.0, rmse=2.23606797749979, bias=-1.0, pixels=2)
    """
    difference = np.subtract(*_masked(image, target, mask))
    if not difference.size:
        return HUError(float("nan"), float("nan"), float("nan"), 0)
    rmse = float(np.sqrt(np.square(difference).mean()))
    return HUError(float(np.abs(difference).mean()), rmse, float(difference.mean()), difference.size)


def psnr(
    image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, hu_range: tuple[float, float] = SOFT_TISSUE
) -> float:
    r"""Peak signal-to-noise ratio, :math:`20 \log_{10}((high - low) / RMSE)` dB; infinite for equal images.

    HU outside `hu_range` = (low, high), 1900 HU by default, are clipped to it. NaN where the mask is empty.

    Example:
        >>> psnr(np.full((2, 2), 190.0), np.zeros((2, 2)))
        20.0
    """
    a, b = (np.clip(values, *hu_range) for values in _masked(image, target, mask))
    if not a.size:
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(b, a, data_range=hu_range[1] - hu_range[0]))


def ssim(
    image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, hu_range: tuple[float, float] = SOFT_TISSUE
) -> float:
    """Structural similarity, mean over the pixels of a mask that are 5 px from the border of their slice; at most 1.

    scikit-image's, set as in the reference: Gaussian windows of 1.5 px, slice by slice. HU are clipped to `hu_range` and
    counted from its low end, since the index takes intensities >= 0. NaN where no pixel is left.

    Reference: Wang et al., IEEE Transactions on Image Processing 13 (2004) 600-612.
    """
    _masked(image, target, mask)
    low, high = hu_range
    shape = (-1, *np.shape(target)[-2:])
    if min(shape[1:]) <= 10:
        return float("nan")  # every pixel is near the border
    slices = [np.clip(np.asarray(x, np.float64), low, high).reshape(shape) - low for x in (image, target)]
    maps = np.stack([_similarity(a, b, high - low) for a, b in zip(*slices, strict=True)])
    counted = np.ones(maps.shape, bool) if mask is None else np.reshape(mask, shape)
    inner = maps[:, 5:-5, 5:-5][counted[:, 5:-5, 5:-5]]
    return float(inner.mean()) if inner.size else float("nan")


def _similarity(image: np.ndarray, target: np.ndarray, data_range: float) -> np.ndarray:
    """Structural similarity of each pixel of a slice, (H, W): 1 in all of them where slices are equal."""
    if np.array_equal(image, target):
        return np.ones(image.shape)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    return structural_similarity(image, target, data_range=data_range, **settings)[1]


def _masked(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of both where the mask is True, (n,) float64 each; ValueError unless all have one shape."""
    shapes = [np.shape(array) for array in (image, target, *(() if mask is None else (mask,)))]
    if len(set(shapes)) != 1:
        raise ValueError(f"expected image, target and mask of one shape, got {', '.join(map(str, shapes))}")
    counted = np.ones(shapes[0], bool) if mask is None else np.asarray(mask, bool)
    return np.asarray(image, np.float64)[counted], np.asarray(target, np.float64)[counted]
