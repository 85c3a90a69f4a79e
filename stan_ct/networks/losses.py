"""The losses of the paper, Eqs. 1 - 6; all are minimized."""

from __future__ import annotations

from typing import Any

from keras import ops

from stan_ct.ct.hounsfield import SOFT_TISSUE, HUWindow
from stan_ct.networks.config import LossSettings
from stan_ct.networks.discriminator import critic_value, p_real
from stan_ct.networks.texture_loss import texture_loss

AIR_POOLING = 7
"""Side, px, of the moving average by which air outside the field of view is told from noisy air inside it."""
ADDED = ("texture", "local_mean", "low_pass", "squared")
"""Terms of G's loss that the paper does not have; `NAME_weight` of the settings is their weight."""
LOCAL_MEAN, LOW_PASS = 16, 4
"""Sides of the squares whose means the terms `local_mean` and `low_pass` compare, px."""
CLIP_VALUE = 0.01
"""Bound of the discriminator's weights where they are clipped, as in the cited WGAN."""

Tensor = Any
"""Tensor of whichever backend Keras runs on."""


def critic(logits: Tensor, settings: LossSettings) -> Tensor:
    """Critic value f of each patch, (B,), from logits (B, h, w, 2)."""
    return critic_value(logits) if settings.critic_output == "logit" else p_real(logits)


def adversarial_loss_d(target_logits: Tensor, synthesized_logits: Tensor, settings: LossSettings) -> Tensor:
    """L_adv(D) = mean f(G(x')) - mean f(x), the negative of the ascent direction of Eq. 1; or another loss.

    `relativistic` is mean softplus(f(G(x')) - f(x)): Eq. 1 for each pair by itself, without reward for more than a clear order.
    Its patches lie in the same place, so that D need not know how noisy a patch should be, only which of two is the target.

    Args:
        target_logits: D's logits [fake, real] for x, (B, h, w, 2).
        synthesized_logits: Those for G(x'), same shape.
        settings: Which loss, and what f is.

    Reference: Jolicoeur-Martineau: The relativistic discriminator, ICLR 2019; Huang et al.: The GAN is dead; long live the GAN!
    A modern GAN baseline, NeurIPS 2024.
    """
    if settings.adversarial == "relativistic":
        return ops.mean(ops.softplus(critic_value(synthesized_logits) - critic_value(target_logits)))
    if settings.adversarial == "cross_entropy":
        real, fake = (ops.log_softmax(logits, axis=-1) for logits in (target_logits, synthesized_logits))
        return -ops.mean(real[..., 1]) - ops.mean(fake[..., 0])
    return ops.mean(critic(synthesized_logits, settings)) - ops.mean(critic(target_logits, settings))


def adversarial_loss_g(synthesized_logits: Tensor, settings: LossSettings, target_logits: Tensor | None = None) -> Tensor:
    """L_adv(G) = -mean f(G(x')), Eq. 4; cross-entropy; or mean softplus(f(x) - f(G(x'))).

    Args:
        synthesized_logits: D's logits [fake, real] for G(x'), (B, h, w, 2).
        settings: Which loss, and what f is.
        target_logits: Those for x, which only `relativistic` needs.
    """
    if settings.adversarial == "relativistic":
        return ops.mean(ops.softplus(critic_value(target_logits) - critic_value(synthesized_logits)))
    if settings.adversarial == "cross_entropy":
        return -ops.mean(ops.log_softmax(synthesized_logits, axis=-1)[..., 1])
    return -ops.mean(critic(synthesized_logits, settings))


def verdicts(target_logits: Tensor, synthesized_logits: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """P(real) of targets and of synthesized patches as the referee of the competition sees them, (B,) each.

    With the relativistic loss these are the probabilities sigmoid(f(x) - f(G(x'))) that D takes the target of a pair for the
    target, and 1 minus it; they are 1/2 where D cannot tell.
    """
    if settings.adversarial != "relativistic":
        return p_real(target_logits), p_real(synthesized_logits)
    won = ops.sigmoid(critic_value(target_logits) - critic_value(synthesized_logits))
    return won, 1 - won


def feature_loss(synthesized_features: Tensor, target_features: Tensor) -> Tensor:
    """L_feat = (1 / V) ||phi(G(x')) - phi(x)||_1, Eq. 2."""
    return mean_absolute(synthesized_features, target_features)


def latent_loss(target_latent: Tensor, synthesized_latent: Tensor, settings: LossSettings) -> Tensor:
    """L_lat = mean |z(x) - z(G(x'))|, Eq. 5."""
    if settings.latent_stop_gradient:
        target_latent = ops.stop_gradient(target_latent)
    return mean_absolute(target_latent, synthesized_latent)


def mask_to_target(source: Tensor, target: Tensor, synthesized: Tensor, hu_window: HUWindow) -> Tensor:
    """The synthesized patch, with the target's pixels where there is nothing to standardize, so that losses ignore them.

    Ignored are air below the soft-tissue range on average over `AIR_POOLING` pixels, as outside the field of view, and pixels
    above that range.

    Args:
        source: (B, H, W, C) in [-1, 1]; its first channel counts.
        target: (B, H, W, 1).
        synthesized: Same shape.
        hu_window: HU <-> [-1, 1].
    Returns:
        (B, H, W, 1) float32.
    """
    source = ops.cast(source[..., :1], "float32")
    low, high = (hu_window.normalize(hu) for hu in SOFT_TISSUE)
    ignored = ops.logical_or(ops.average_pool(source, AIR_POOLING, strides=1, padding="same") < low, source > high)
    return ops.where(ignored, ops.cast(target, "float32"), ops.cast(synthesized, "float32"))


def mean_absolute(a: Tensor, b: Tensor) -> Tensor:
    """mean |a - b|, in float32: the L1 term of Eq. 6 and the norm of Eqs. 2 and 5."""
    return ops.mean(ops.abs(ops.cast(a, "float32") - ops.cast(b, "float32")))


def mean_squared(a: Tensor, b: Tensor) -> Tensor:
    """mean (a - b)^2, in float32."""
    return ops.mean(ops.square(ops.cast(a, "float32") - ops.cast(b, "float32")))


def local_mean_loss(expected: Tensor, synthesized: Tensor, side: int = LOCAL_MEAN) -> Tensor:
    """mean |m(x) - m(G(x'))|, with m the means over squares of `side` pixels."""
    return mean_absolute(*(ops.average_pool(ops.cast(x, "float32"), side) for x in (expected, synthesized)))


def added_terms(
    target: Tensor, expected: Tensor, synthesized: Tensor, settings: LossSettings, hu_window: HUWindow
) -> dict[str, Tensor]:
    """Terms of G's loss that the paper does not have, those with a weight.

    Args:
        target: Target patches, (B, H, W, 1) in [-1, 1], by whose texture G's is judged.
        expected: What pixels and local means are compared with, same shape: the target, or without pairs G's input.
        synthesized: G's output, same shape.
        settings: Weights.
        hu_window: HU <-> [-1, 1].
    """
    makers = {
        "texture": lambda: texture_loss(target, synthesized, hu_window),
        "local_mean": lambda: local_mean_loss(expected, synthesized),
        "low_pass": lambda: local_mean_loss(expected, synthesized, LOW_PASS),
        "squared": lambda: mean_squared(expected, synthesized),
    }
    return {name: make() for name, make in makers.items() if getattr(settings, f"{name}_weight")}


def total_loss_d(terms: dict[str, Tensor], settings: LossSettings) -> Tensor:
    """L(D) = L_adv(D) -+ lambda1 L_feat, Eq. 3, plus the gradient penalty if there is one.

    A penalty that is computed at intervals is weighted by them.

    Reference: Karras et al.: Analyzing and improving the image quality of StyleGAN, CVPR 2020, lazy regularization.
    """
    sign = -1 if settings.maximize_feature_loss else 1
    total = terms["adversarial_d"] + sign * settings.feature_weight * terms["feature"]
    if "penalty" not in terms:
        return total
    return total + settings.penalty_interval * settings.penalty_weight * terms["penalty"]


def total_loss_g(terms: dict[str, Tensor], settings: LossSettings) -> Tensor:
    """L(G) = w L_adv(G) + lambda2 L_lat + lambda3 L1, Eq. 6, plus squared, local mean and texture losses if there are any.

    w is `adversarial_weight` of the terms, if it is balanced step by step, else of the settings.
    """
    total = (
        terms.get("adversarial_weight", settings.adversarial_weight) * terms["adversarial_g"]
        + settings.latent_weight * terms["latent"]
        + settings.l1_weight * terms["l1"]
    )
    return total + sum(getattr(settings, f"{name}_weight") * terms[name] for name in ADDED if name in terms)
