"""The losses of the paper, Eqs. 1 - 6; all are minimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keras import ops

from stan_ct.ct.hounsfield import SOFT_TISSUE, HUWindow
from stan_ct.networks.discriminator import Lipschitz, critic_value, p_real


@dataclass(frozen=True)
class LossSettings:
    """Weights and switches of Eqs. 1 - 6.

    Attributes:
        adversarial_weight: Weight of L_adv(G) in Eq. 6 (the paper has 1; the authors' code 1 : 100 to L1).
        feature_weight: lambda1 of Eq. 3.
        latent_weight: lambda2 of Eq. 6.
        l1_weight: lambda3 of Eq. 6.
        texture_weight: Weight of `texture_loss` (ours).
        inside_only: Where there is nothing to standardize G is not judged, see `inside` (ours).
        adversarial: `wgan` (Eqs. 1, 4) or `cross_entropy` (GANai).
        critic_output: Whether f is the `logit` difference or the `probability`.
        feature_sign: -1: D maximises L_feat (Eq. 3 adds it to the ascended Eq. 1); +1: D minimises it.
        latent_stop_gradient: No gradient through z(x), so that G's encoder cannot win by shrinking z.
        lipschitz: How D is kept 1-Lipschitz.
        clip_value: Bound of D's weights for `clip`.
        penalty_weight: Weight of the gradient penalty.
    """

    adversarial_weight: float = 0.01
    feature_weight: float = 0.01
    latent_weight: float = 0.01
    l1_weight: float = 1.0
    texture_weight: float = 0.0
    inside_only: bool = False
    adversarial: Literal["wgan", "cross_entropy"] = "wgan"
    critic_output: Literal["logit", "probability"] = "logit"
    feature_sign: int = -1
    latent_stop_gradient: bool = False
    lipschitz: Lipschitz = "spectral"
    clip_value: float = 0.01
    penalty_weight: float = 10.0


def critic(logits, settings: LossSettings):
    """f, (B,)."""
    return critic_value(logits) if settings.critic_output == "logit" else p_real(logits)


def adversarial_loss_d(target_logits, synthesized_logits, settings: LossSettings):
    """L_adv(D) = mean f(G(x')) - mean f(x), the negative of the ascent direction of Eq. 1; or cross-entropy."""
    if settings.adversarial == "cross_entropy":
        real, fake = (ops.log_softmax(logits, axis=-1) for logits in (target_logits, synthesized_logits))
        return -ops.mean(real[..., 1]) - ops.mean(fake[..., 0])
    return ops.mean(critic(synthesized_logits, settings)) - ops.mean(critic(target_logits, settings))


def adversarial_loss_g(synthesized_logits, settings: LossSettings):
    """L_adv(G) = -mean f(G(x')), Eq. 4; or cross-entropy."""
    if settings.adversarial == "cross_entropy":
        return -ops.mean(ops.log_softmax(synthesized_logits, axis=-1)[..., 1])
    return -ops.mean(critic(synthesized_logits, settings))


def feature_loss(synthesized_features, target_features):
    """L_feat = (1 / V) ||phi(G(x')) - phi(x)||_1, Eq. 2."""
    return mean_absolute(synthesized_features, target_features)


def latent_loss(target_latent, synthesized_latent, settings: LossSettings):
    """L_lat = mean |z(x) - z(G(x'))|, Eq. 5."""
    if settings.latent_stop_gradient:
        target_latent = ops.stop_gradient(target_latent)
    return mean_absolute(target_latent, synthesized_latent)


def inside(source, target, synthesized, window: HUWindow):
    """What is judged of a synthesized patch: G's pixels, but the target's where there is nothing to standardize.

    These are air that lies, on average over `NEARBY` pixels, below the soft-tissue range, as around the field of view, and
    what is above the range. All patches are (B, H, W, 1) in [-1, 1].
    """
    source = ops.cast(source, "float32")
    low, high = ((2 * hu - window.low - window.high) / (window.high - window.low) for hu in SOFT_TISSUE)
    kept = ops.logical_or(ops.average_pool(source, NEARBY, strides=1, padding="same") < low, source > high)
    return ops.where(kept, ops.cast(target, "float32"), ops.cast(synthesized, "float32"))


NEARBY = 7


def texture_loss(target, synthesized, window: HUWindow, levels: int = 256):
    """Mean relative error (Eq. 8) of dissimilarity, contrast, homogeneity and energy, from pixels instead of their histogram.

    The first three are means over neighbours' differences, which need no co-occurrence matrix; the angular second moment,
    energy squared, is the chance that two pairs of neighbours are equal, estimated from pairs `SHIFTS` apart with a triangle
    for "equal". They are compared tile by tile, so that air and tissue each get their own texture, and not the mean of both
    alone; a tile's error is relative to its own feature plus a part of the patch's, for tiles that are flat.

    Args:
        target: (B, H, W, 1) in [-1, 1], H and W multiples of `TILE`.
        synthesized: Same shape.
        window: HU <-> [-1, 1].
        levels: Gray levels over the soft-tissue range.
    """
    low, high = SOFT_TISSUE
    level = (high - low) / levels

    def gray(patches):
        hu = window.low + (ops.cast(patches[..., 0], "float32") + 1) * ((window.high - window.low) / 2)
        return ops.clip((hu - low) / level, 0, levels)

    wanted, found = (_texture(_tiles(gray(patches))) for patches in (target, synthesized))
    tiles = (-1, (target.shape[1] // TILE) * (target.shape[2] // TILE), wanted.shape[-1])
    wanted, found = (ops.reshape(features, tiles) for features in (wanted, found))  # (B, tiles, features)
    scale = wanted + FLOOR * ops.mean(wanted, axis=1, keepdims=True)
    return ops.mean(ops.abs(found - wanted) / (scale + 1e-6))


TILE = 64
"""Side of the tiles whose textures are compared, px."""
FLOOR = 0.25
"""Part of the patch's feature that is added to a tile's own in the denominator of its relative error."""
SHIFTS = ((16, 0), (0, 16), (32, 16), (16, 32))
SAME = 2.0
"""Gray levels over which the triangle falls to 0."""


def _tiles(gray):
    """(B, H, W) -> (B H W / TILE^2, TILE, TILE)."""
    _, height, width = gray.shape
    rows, columns = height // TILE, width // TILE
    parts = ops.reshape(gray, (-1, rows, TILE, columns, TILE))
    return ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4)), (-1, TILE, TILE))


def _texture(gray):
    """(B, H, W) gray levels -> (B, 4): dissimilarity, contrast, homogeneity, root of the chance of equal pairs."""
    differences = [
        gray[:, :, 1:] - gray[:, :, :-1],
        gray[:, 1:, :] - gray[:, :-1, :],
        gray[:, 1:, 1:] - gray[:, :-1, :-1],
        gray[:, 1:, :-1] - gray[:, :-1, 1:],
    ]

    def mean(measure):
        return sum(ops.mean(measure(d), axis=(1, 2)) for d in differences) / len(differences)

    def close(shift):
        return ops.relu(1 - ops.abs(gray - ops.roll(gray, shift, axis=(1, 2))) / SAME)

    def equal(shift):
        near = close(shift)
        return ops.mean(near[:, :, 1:] * near[:, :, :-1], axis=(1, 2))

    energy = ops.sqrt(sum(equal(shift) for shift in SHIFTS) / len(SHIFTS) + 1e-6)
    return ops.stack([mean(ops.abs), mean(ops.square), mean(lambda d: 1 / (1 + d * d)), energy], axis=1)


def mean_absolute(a, b):
    """mean |a - b|, in float32: the L1 term of Eq. 6 and the norm of Eqs. 2 and 5."""
    return ops.mean(ops.abs(ops.cast(a, "float32") - ops.cast(b, "float32")))


def total_loss_d(terms: dict, settings: LossSettings):
    """L(D) = L_adv(D) -+ lambda1 L_feat, Eq. 3, plus the gradient penalty where it is used."""
    total = terms["adversarial_d"] + settings.feature_sign * settings.feature_weight * terms["feature"]
    return total + settings.penalty_weight * terms["penalty"] if "penalty" in terms else total


def total_loss_g(terms: dict, settings: LossSettings):
    """L(G) = w L_adv(G) + lambda2 L_lat + lambda3 L1, Eq. 6, plus the texture loss where it is used."""
    total = (
        settings.adversarial_weight * terms["adversarial_g"]
        + settings.latent_weight * terms["latent"]
        + settings.l1_weight * terms["l1"]
    )
    return total + settings.texture_weight * terms["texture"] if "texture" in terms else total
