"""Patches of sources and of targets of other patients, matched by tissue and noise: what G trains on without pairs.

D compares what G makes of a source patch with a target patch. Were they of other tissue, or of another dose, it would learn
that; so each source patch gets the target patch that is most like it in what no kernel changes much: the shares of air, lung,
fat, soft tissue and bone, the coarse structure and the pixel spacing; and in the noise that the filter leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stan_ct.adaptation.scans import Patient
from stan_ct.ct.filters import RadialFilter, Spacing
from stan_ct.ct.slice_spectra import LOCAL
from stan_ct.ct.smoothing import gaussian
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.patches.cutting import cut, sample_patches
from stan_ct.patches.fusion import pad_to
from stan_ct.patches.sampling import PATCH_SIZE, SamplingRule

MARGIN = 16
"""Border of a patch by which training shifts it, px."""
PATCHES = 8
"""Patches of a slice, at most."""
RULE = SamplingRule(min_soft_tissue=0.5)
"""Of which patches are taken: crops of limbs hold less soft tissue than slices of the chest."""
VALIDATING = 5
"""Patients of a side that validate, at least: mean features of like patches differ by up to a fifth from patient to patient
(docs/EXPERIMENTS.md), so that fewer agree by chance."""
NEAREST = 4
"""Number of target patches, of those most like a source patch, of which one is drawn."""
EDGES = (-900.0, -500.0, -150.0, -20.0, 150.0)
"""HU between which shares of the smoothed patch are told: air, lung, partial volumes, fat, soft tissue, bone."""

TRAITS = len(EDGES) + 4
"""Number of traits of a patch."""


@dataclass(frozen=True)
class Patches:
    """Patches of one patient.

    Attributes:
        images: (N, K, S, S) int16 HU: source and filtered source, or the target alone; S = 256 + 2 MARGIN.
        traits: (N, T) what patches are matched by.
    """

    images: np.ndarray
    traits: np.ndarray


def cut_patches(patient: Patient, curve: RadialFilter | None, seed: int) -> Patches:
    """Cuts patches of the chosen slices of a patient.

    Args:
        patient: The patient.
        curve: Filter of a source; None for a target.
        seed: Seed of the patches' places.
    """
    rng, images, traits = np.random.default_rng(seed), [], []
    for files, chosen in zip(patient.series, patient.chosen, strict=True):
        try:
            series = load_series(replace(files, instances=tuple(files.instances[z] for z in chosen)), workers=1)
        except Refused:
            continue
        for z in range(len(series.volume)):
            given = series.slice(z)
            shown = [given.hu] if curve is None else [given.hu, curve(given.continued, given.pixel_spacing)]
            shown = [pad_to(image, PATCH_SIZE, PATCH_SIZE) for image in shown]
            soft = pad_to(series.soft_tissue(z), PATCH_SIZE, PATCH_SIZE)
            for patch in sample_patches(soft, PATCHES, False, rng, RULE):
                whole = np.concatenate([cut(image, patch, MARGIN) for image in shown])
                images.append(np.clip(np.rint(whole), -32768, 32767).astype(np.int16))
                traits.append(_traits(whole[-1][MARGIN:-MARGIN, MARGIN:-MARGIN], given.pixel_spacing))
    if not images:
        side, kinds = PATCH_SIZE + 2 * MARGIN, 1 if curve is None else 2
        return Patches(np.zeros((0, kinds, side, side), np.int16), np.zeros((0, TRAITS)))
    return Patches(np.stack(images), np.stack(traits))


def _traits(hu: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Shares of tissues, and logarithms of coarse structure, noise and pixel spacing, (TRAITS,)."""
    smooth = gaussian(hu.astype(np.float32), (LOCAL / spacing[0], LOCAL / spacing[1]))
    shares = np.histogram(smooth, [-np.inf, *EDGES, np.inf])[0] / smooth.size
    detail = np.sqrt(gaussian(np.square(hu - smooth), (LOCAL / spacing[0], LOCAL / spacing[1])))
    soft = (smooth > EDGES[2]) & (smooth < EDGES[4])
    noise = float(np.quantile(detail[soft], 0.25)) if soft.any() else 1.0
    return np.array([*shares, np.log(smooth.std() + 1), np.log(noise + 1), np.log(spacing[0])])


def match(sources: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    """A target patch for each source patch: one of those that are most like it, drawn.

    Args:
        sources: (N, T) traits.
        targets: (M, T) traits, M > 0.
        seed: Seed of the draws.
    Returns:
        (N,) indices of target patches.
    """
    scale = np.maximum(targets.std(0), 0.05)
    distance = np.square((sources[:, None] - targets[None]) / scale).sum(-1)
    nearest = np.argsort(distance, axis=1)[:, :NEAREST]
    drawn = np.random.default_rng(seed).integers(0, nearest.shape[1], len(sources))
    return nearest[np.arange(len(sources)), drawn]


def held_back(number: int) -> np.ndarray:
    """Which patients of a side validate, (number,) bool: a quarter of them, or `VALIDATING` if that is more.

    Args:
        number: Number of patients, at least twice `VALIDATING`.
    """
    count = max(VALIDATING, number // 4)
    chosen = np.zeros(number, bool)
    chosen[((np.arange(count) + 0.5) * number / count).astype(int)] = True
    return chosen
