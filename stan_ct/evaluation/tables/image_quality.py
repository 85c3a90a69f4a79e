"""Table of image quality: PSNR, SSIM, emphysema index and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stan_ct.ct.hounsfield import SOFT_TISSUE
from stan_ct.evaluation.measure.image_quality import REGION, REGIONS, Quality
from stan_ct.evaluation.statistics.image_quality import LUNG_AREA
from stan_ct.evaluation.tables.rows import SOURCE, TARGET
from stan_ct.features.errors import summarize
from stan_ct.report.sections import Cell, Table, slug

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


def quality_table(subject: str, rows: Mapping[str, Sequence[Quality]]) -> Table:
    """Image quality over slices: a row for each image, the target included.

    Args:
        subject: What was measured: the end of title and key.
        rows: Name -> quality of the same slices in every image; `source` and `target` are among the names.
    """
    cells = {
        name: (
            _psnr([q.psnr for q in slices]),
            _mean([q.ssim for q in slices], NO_WINDOW),
            _emphysema(slices),
            *_noise(slices, rows[TARGET]),
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
        f"Image quality, {subject}",
        caption,
        COLUMNS,
        cells,
        better={"PSNR [dB]": "higher", "SSIM": "higher", "NPS error": "lower"},
        reference=frozenset({SOURCE, TARGET}),
        decimals=dict(zip(COLUMNS, (2, 4, 2, 2, 2, 3), strict=True)),
        key=f"image_quality_{slug(subject)}",
        notes=("n, in the CSV, is the number of slices.",),
    )


def _mean(values: Sequence[float] | np.ndarray, none: str) -> Cell:
    """Mean and standard deviation over slices; `none` is the reason for NaN."""
    s = summarize(np.array(values))
    return Cell(s.mean, s.sd, n=s.n, undefined=s.undefined, reason=none if s.undefined else "")


def _psnr(values: Sequence[float]) -> Cell:
    """Mean of the finite values; infinite if all slices equal the target's."""
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    reasons = [reason for reason, count in ((NO_TISSUE, nan), (EQUAL, infinite)) if count]
    if infinite and infinite + nan == len(values):
        return Cell(np.inf, n=infinite, undefined=nan, reason=NO_TISSUE if nan else "")
    return _mean(np.where(np.isinf(values), np.nan, values), "; or ".join(reasons))


def _emphysema(slices: Sequence[Quality]) -> Cell:
    """Percentage of the lung of all slices."""
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
