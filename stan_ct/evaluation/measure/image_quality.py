"""Image quality of written slices beside the target's: PSNR, SSIM, emphysema index and noise, and the table of them.

Lung and uniform regions are found once in each slice, in the target, so that all images are measured in the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stan_ct.ct.hounsfield import AIR, SOFT_TISSUE, soft_tissue_mask
from stan_ct.ct.noise import NoisePower, noise_power, uniform_regions
from stan_ct.evaluation.statistics.image_quality import LUNG_AREA, laa950, lung_mask
from stan_ct.features.errors import psnr, ssim, summarize
from stan_ct.report.sections import Cell, Table

REGION, REGIONS = 24, 4
"""Side of a uniform region, px, and how many are taken in a slice at most."""

NOISELESS = 1e-6
"""A standard deviation below this, HU, is rounding and no noise."""

NO_TISSUE = "the slice has no pixel of soft tissue"
NO_WINDOW = "the slice has no pixel of soft tissue 5 pixels from its border"
EQUAL = "the slice equals the target's, so its PSNR is infinite"
NO_LUNG = "the target's slice shows no lung"
NOT_UNIFORM = "nothing in the target's slice is uniform"
NO_NOISE = "there is no noise"
NO_TARGET_NOISE = "the target has no noise"

COLUMNS = ("PSNR [dB]", "SSIM", "LAA-950 [%]", "noise SD [HU]", "NPS mean frequency [lp/cm]", "NPS error")


class Quality(NamedTuple):
    """An image in one slice.

    Attributes:
        psnr: dB, over soft tissue; infinite where the image equals the target there, NaN without soft tissue.
        ssim: At most 1, over soft tissue; NaN without.
        lung: Number of pixels of the target's lung.
        laa950: The share of them that is below -950 HU in this image; NaN without lung.
        regions: Number of the target's uniform regions.
        noise: The noise power in them; None without any.
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
    """Measures every image of one slice beside the target, which is measured too.

    Args:
        images: Name -> (H, W) HU; `source` says where soft tissue is, `target` where lung and uniform regions are.
        padding: (H, W) bool, where source or target is padding: nothing is compared there.
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


def quality_table(title: str, rows: Mapping[str, Sequence[Quality]]) -> Table:
    """Image quality over slices: a row for each image, the target's own among them.

    Args:
        title: Of the table.
        rows: Name -> the same slices of every image; `source` and `target` are among the names.
    """
    cells = {
        name: (
            _psnr([q.psnr for q in slices]),
            _mean([q.ssim for q in slices], NO_WINDOW),
            _emphysema(slices),
            *_noise(slices, rows["target"]),
        )
        for name, slices in rows.items()
    }
    low, high = SOFT_TISSUE
    caption = (
        f"PSNR and SSIM against the target: HU clipped to [{low:g}, {high:g}], where the source is soft tissue, mean ± "
        "standard deviation over slices. LAA-950: the part of the lung below -950 HU; lung is air of at least "
        f"{LUNG_AREA:g} cm² within the body, found in the target slice by slice (a stomach full of air counts too). Noise: its "
        f"standard deviation and the mean frequency of its power spectrum (NPS), in up to {REGIONS} windows of {REGION} x "
        f"{REGION} pixels a slice, where the target's fat or soft tissue is most uniform. NPS error: Σ |P - P_target| A / Σ "
        "P_target A over the rings of frequency, P the mean spectrum of the windows of one pixel spacing, A the area of a "
        "ring; 0 is equal to the target. LAA-950 and noise are the better the closer they are to the target's row. The MTF is "
        "measured on phantoms, not in patients, so it is not here."
    )
    return Table(
        title,
        caption,
        COLUMNS,
        cells,
        better={"PSNR [dB]": "higher", "SSIM": "higher", "NPS error": "lower"},
        reference=frozenset({"source", "target"}),
        decimals=dict(zip(COLUMNS, (2, 4, 2, 2, 2, 3), strict=True)),
        notes=("n, in the CSV, is the number of slices.",),
    )


def _mean(values: Sequence[float], none: str) -> Cell:
    """Mean and standard deviation over slices; `none` says why some are NaN."""
    s = summarize(np.array(values))
    return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason=none if s.undefined else "")


def _psnr(values: Sequence[float]) -> Cell:
    """The mean of the finite ones; infinite where all slices equal the target's."""
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    reasons = [reason for reason, count in ((NO_TISSUE, nan), (EQUAL, infinite)) if count]
    if infinite and infinite + nan == len(values):
        return Cell(np.inf, n=infinite, undefined=nan, reason=NO_TISSUE if nan else "")
    return _mean(np.where(np.isinf(values), np.nan, values), "; or ".join(reasons))


def _emphysema(slices: Sequence[Quality]) -> Cell:
    """Percent of the lung of all slices."""
    lung, share = (np.array([getattr(q, name) for q in slices if q.lung]) for name in ("lung", "laa950"))
    without = len(slices) - len(lung)
    value = 100 * float(lung @ share / lung.sum()) if len(lung) else np.nan
    return Cell(value, n=len(lung), undefined=without, reason=NO_LUNG if without else "")


def _noise(slices: Sequence[Quality], target: Sequence[Quality]) -> tuple[Cell, Cell, Cell]:
    """Standard deviation, mean frequency and error of the noise power of all uniform regions."""
    regions, n = sum(q.regions for q in slices), sum(q.noise is not None for q in slices)
    without = len(slices) - n
    reason = NOT_UNIFORM if without else ""
    if not n:
        return (Cell(np.nan, n=0, undefined=without, reason=reason),) * 3
    (frequency, own), (_, wanted) = (_variances(of) for of in (slices, target))
    sd, target_sd = (float(np.sqrt(variances.sum() / regions)) for variances in (own, wanted))

    def cell(value: float, none: str, known: bool) -> Cell:
        reasons = "; ".join(filter(None, (reason, "" if known else none)))
        return Cell(float(value) if known else np.nan, n=n, undefined=without, reason=reasons)

    with np.errstate(divide="ignore", invalid="ignore"):  # no noise
        frequencies, error = own @ frequency / own.sum(), np.abs(own - wanted).sum() / wanted.sum()
    return (
        cell(sd, "", True),
        cell(frequencies, NO_NOISE, sd > NOISELESS),
        cell(error, NO_TARGET_NOISE, target_sd > NOISELESS),
    )


def _variances(slices: Sequence[Quality]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, lp/cm, and the variance of the noise there, HU^2, summed over the regions of one pixel spacing."""
    sums: dict[tuple[float, ...], np.ndarray] = {}
    for q in slices:
        if q.noise is not None:
            rings = tuple(q.noise.frequency.tolist())  # which the pixel spacing decides
            sums[rings] = sums.get(rings, 0.0) + q.regions * q.noise.power * q.noise.area
    return np.concatenate([np.array(rings) for rings in sums]), np.concatenate(list(sums.values()))
