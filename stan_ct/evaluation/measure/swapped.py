"""Whether source and target were exchanged: then what was synthesized is like the source, or was made of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stan_ct.dicom.series import Instance
from stan_ct.evaluation.measure.measurement import MEASURES, Measured
from stan_ct.features.glcm import FEATURES

NEARER = 1.0
"""A synthesized series is like the source if its distance from the source is less than this times that from the target."""


def texture_distance(one: Measured, other: Measured) -> float:
    r"""Distance of two images in texture: mean of :math:`|a - b| / (|a| + |b|)` over patches and the paper's five features.

    Args:
        one: Measurements of N patches.
        other: Measurements of the same patches in another image.
    Returns:
        Distance in [0, 1], the same in both directions; 0 of equal images.
    """
    columns = [MEASURES.index(name) for name in FEATURES]
    a, b = one.features[:, columns], other.features[:, columns]
    scale = np.abs(a) + np.abs(b)
    return float(np.nanmean(np.abs(a - b) / np.where(scale > 0, scale, 1)))


def swap_warning(rows: Mapping[str, Measured], places: Sequence[Mapping[str, Instance]]) -> str:
    """Warning that source and target look exchanged; empty if they do not.

    A synthesized series that names the slices of the source as its own source (0008,2112) is not judged by its texture.

    Args:
        rows: Name -> measurements of `source`, of the synthesized images, and of `target`.
        places: The slices in each place, by the same names.
    """
    names = [name for name in rows if name not in ("source", "target")]
    if not names or "target" not in rows:
        return ""
    origins = {name: {origin for place in places if (origin := _origin(place, name))} for name in names}
    if of_target := [name for name in names if "target" in origins[name]]:
        return (
            f"source and target are swapped: {' and '.join(of_target)} was made of slices of the target, as its DICOM headers "
            "say. Exchange --source_dir and --target_dir"
        )
    judged = [name for name in names if not origins[name]]
    distances = {name: [texture_distance(rows[name], rows[end]) for end in ("source", "target")] for name in judged}
    if not judged or not all(source < NEARER * target for source, target in distances.values()):
        return ""
    numbers = ", ".join(f"{name} {source:.3f} and {target:.3f}" for name, (source, target) in distances.items())
    return (
        "source and target look swapped: in texture, what was synthesized is nearer to the source than to the target "
        f"(distances from both: {numbers}). Check --source_dir and --target_dir; if they are right, too little was changed"
    )


def _origin(place: Mapping[str, Instance], name: str) -> str:
    """`source` or `target`, which the header of a synthesized slice names as its source; empty if neither."""
    uids = {str(item.get("ReferencedSOPInstanceUID")) for item in place[name].header.get("SourceImageSequence") or ()}
    return next((end for end in ("source", "target") if place[end].uid in uids), "")
