"""Image quality of written slices beside the target's: PSNR, SSIM, emphysema index and noise.

Lung and uniform regions are found once in each slice, in the target, so that all images are measured in the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stan_ct.ct.hounsfield import AIR, soft_tissue_mask
from stan_ct.ct.noise import NoisePower, noise_power, uniform_regions
from stan_ct.evaluation.statistics.image_quality import laa950, lung_mask
from stan_ct.features.errors import psnr, ssim

REGION, REGIONS = 24, 4
"""Side of a uniform region, px, and largest number of them in a slice."""


class Quality(NamedTuple):
    """Image quality of one slice.

    Attributes:
        psnr: dB, over soft tissue; infinite where the image equals the target there, NaN without soft tissue.
        ssim: At most 1, over soft tissue; NaN without.
        lung: Number of pixels of the target's lung.
        laa950: Share of these pixels below -950 HU in this image; NaN without lung.
        regions: Number of the target's uniform regions.
        noise: Noise power in these regions; None without any.
    """

    psnr: float
    ssim: float
    lung: int
    laa950: float
    regions: int
    noise: NoisePower | None


def measure_quality(
    images: Mapping[str, np.ndarray], padding: np.ndarray, pixel_spacing: tuple[float, float]
) -> dict[str, Quality]:
    """Measures every image of one slice, the target included.

    Args:
        images: Name -> (H, W) HU; `source` says where soft tissue is, `target` where lung and uniform regions are.
        padding: Pixels that are padding in source or target, (H, W) bool; they are not compared.
        pixel_spacing: (row, column), mm.
    Returns:
        Name -> quality, in the order of `images`.
    Note:
        Regions are chosen where the smoothed target varies least, so its noise of the lowest frequencies, and that of images
        with the same noise, comes out a little too low; it does so for all images alike.
    """
    target = np.where(padding, AIR, images["target"])
    tissue = soft_tissue_mask(images["source"], padding)
    lung = lung_mask(target, pixel_spacing) & ~padding
    windows = uniform_regions(np.where(tissue, target, AIR), REGION, REGIONS)
    return {
        name: Quality(
            psnr(hu, target, tissue),
            ssim(hu, target, tissue),
            int(lung.sum()),
            laa950(hu, lung),
            len(windows),
            noise_power(np.stack([hu[window] for window in windows]), pixel_spacing) if windows else None,
        )
        for name, hu in images.items()
    }
