"""Whether what was made of a series looks like the standard: its noise and edges beside those that the model was made for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.dicom.characteristics import series_characteristics
from stan_ct.dicom.series import Series
from stan_ct.reconstruction.checks import Finding


def output_findings(source: Series, volume: np.ndarray, standard: Fingerprint | None, threads: int = 1) -> list[Finding]:
    """The spectrum that lies farthest from the standard's, if it is farther than that of any series of the standard may.

    The level of the noise is not judged, since it is that of the dose; nor is what has no spectrum, such as air, which the
    comparison with the source finds.

    Args:
        source: Series of which the volume was made.
        volume: (Z, H, W) float32, HU.
        standard: Fingerprint of the standard protocol; None if it is unknown, and then nothing is judged.
        threads: Number of threads that measure.
    """
    if standard is None:
        return []
    made = series_characteristics(replace(source, volume=volume), threads)
    measured = (
        ("noise", standard.compare(made.spectrum)[1], standard.limit),
        ("edges and noise", standard.shape_distance(made.shape), standard.shape_limit),
    )
    beyond = [(found / limit, name, found, limit) for name, found, limit in measured if found > limit]
    if not beyond:
        return []
    _, name, found, limit = max(beyond)
    return [Finding("unlike_standard", round(found, 3), round(limit, 3), f"{name} beside those of {standard.kernel}")]
