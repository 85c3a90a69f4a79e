"""Step 3: patches out of a slice, and what became of them back into it (paper Sec. "Step 3", Eq. 7).

What travels back is the *change* that synthesis made to a patch, not the patch: untouched patches then give the slice
back bit for bit whatever their layout, and resizing a patch to the network's size and back touches the change alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np

from stan_ct.patches.sampling import Patch

Weighting = Literal["hann", "mean"]
HURescale = Literal["window", "patch", "slice"]


class Crop(NamedTuple):
    """Pixels at each side of a patch that are used only where no other patch lies."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


UNTRUSTED_WEIGHT = 1e-13
"""Factor on the weight of what is to be used only where nothing else is: far below a Hann corner, 1.4e-9 at 256 pixels."""


def pad_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Extends an image at the bottom and right by reflection, as often as it takes; cut `[:H, :W]` to undo."""
    missing = (0, max(height - image.shape[0], 0)), (0, max(width - image.shape[1], 0))
    return np.pad(image, missing, mode="symmetric") if any(after for _, after in missing) else image


def extract(image: np.ndarray, patches: Sequence[Patch], size: int | None) -> np.ndarray:
    """Cuts patches out of a slice.

    Args:
        image: (H, W) float32, HU.
        patches: Locations of the patches.
        size: Side to which patches are resized (cubic); None keeps them as they are, all of one shape.
    Returns:
        (N, size, size) float32, HU; or (N, h, w) without resizing.
    """
    cut = [image[p.window] for p in patches]
    return np.stack([c if size is None else _resize(c, size, size) for c in cut]).astype(np.float32)


def fuse(
    image: np.ndarray,
    patches: Sequence[Patch],
    changes: Sequence[np.ndarray],
    weighting: Weighting = "hann",
    crops: Sequence[Crop] | None = None,
    trusted: Sequence[bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Adds the weighted mean of overlapping changes to a slice: the inverse of :func:`extract`.

    Args:
        image: (H, W) float32, HU: the slice the patches were cut from.
        patches: Locations of the patches, as they were cut.
        changes: For each patch, synthesized minus cut, (size, size) HU; resized back to the patch (area mean).
        weighting: `hann` trusts the centre of a patch, `mean` all of it alike (the paper's words).
        crops: For each patch, the borders not to trust; None for none.
        trusted: For each patch, False to use it only where no other patch lies; None trusts all.
    Returns:
        The fused slice, (H, W) float32 HU, and where it is covered, (H, W) bool. Uncovered pixels keep `image`.
    """
    total, weight = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)
    crops, trusted = crops or [Crop()] * len(patches), [True] * len(patches) if trusted is None else trusted
    for patch, change, crop, trust in zip(patches, changes, crops, trusted, strict=True):
        w = patch_weight(patch.height, patch.width, weighting, crop)
        w = w if trust else w * np.float32(UNTRUSTED_WEIGHT)
        total[patch.window] += w * _resize(change, patch.height, patch.width)
        weight[patch.window] += w
    covered = weight > 0
    return image + np.divide(total, weight, out=np.zeros_like(total), where=covered), covered


@lru_cache(maxsize=64)
def patch_weight(height: int, width: int, weighting: Weighting, crop: Crop = Crop()) -> np.ndarray:  # noqa: B008 (immutable)
    """Weight of each pixel of a patch, (height, width) float32, above 0 everywhere."""
    if weighting == "hann":
        rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))
        weight = np.outer(rows, columns)
    else:
        weight = np.ones((height, width))
    kept = np.zeros((height, width), bool)
    kept[crop.top : height - crop.bottom, crop.left : width - crop.right] = True
    weight = np.where(kept, weight, weight * UNTRUSTED_WEIGHT).astype(np.float32)
    weight.flags.writeable = False  # it is kept for the next patch
    return weight


def rescale_hu(patches: np.ndarray, method: HURescale, low: float, high: float) -> np.ndarray:
    r"""Eq. 7, :math:`(P - \min \hat x)(MAX - MIN) / (\max \hat x - \min \hat x) + MIN`, on synthesized patches.

    Args:
        patches: (N, h, w) float32, HU by the fixed window. Eq. 7 starts from the gray scale, of which HU are an affine
            map, and it undoes any such map.
        method: `window` leaves the HU alone; `patch` stretches each patch (the paper); `slice` all patches of a slice
            by their common range.
        low: MIN, the smallest CT number of the source slice, HU.
        high: MAX, the largest one, HU.
    Returns:
        (N, h, w) float32, HU. A flat patch is left as it is.
    Note:
        The printed equation lacks `+ MIN`.
    """
    if method == "window" or not len(patches):
        return patches
    axes = (1, 2) if method == "patch" else None
    smallest, largest = (f(patches, axis=axes, keepdims=True) for f in (np.min, np.max))
    span = largest - smallest
    stretched = (patches - smallest) / np.where(span > 0, span, 1) * (high - low) + low
    return np.where(span > 0, stretched, patches).astype(np.float32)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape == (height, width):
        return image
    smaller = height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
