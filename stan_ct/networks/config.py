"""Configuration of the networks and of their losses; plain Python, so that reading it loads no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stan_ct.options import check, option

Normalization = Literal["none", "batch", "group"]
Initialization = Literal["normal", "he"]
Upsampling = Literal["transposed", "resize", "pixel_shuffle"]
Adversarial = Literal["wgan", "cross_entropy", "relativistic"]
CriticOutput = Literal["logit", "probability"]
Lipschitz = Literal["none", "clip", "gradient_penalty", "zero_centered"]


MAX_ADJACENT = 8
"""Largest number of slices on either side that a generator sees."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of the generator.

    Attributes:
        base_filters: Filters of the first layer; 64 in the paper (about 54 M parameters).
        normalization: `none`, `batch` (moving averages at inference) or `group`; never in the first layer nor the bottleneck.
        residual: True: output = input + tanh(last layer), the last layer starting at zero, so that an untrained generator is
            the identity. False: output = tanh(last layer), the paper.
        upsampling: How decoder layers double the size: `transposed` convolution (the paper), which can write a lattice;
            `resize`: nearest neighbour, then a 3 x 3 convolution; `pixel_shuffle`.
        full_resolution: Whether a last 3 x 3 convolution at full resolution sees the input beside the decoder (ours).
        adjacent_slices: Number of slices before and after the one to standardize that G sees too, as further channels (2.5 D;
            ours).
    Raises:
        UsageError: If a value is out of its range.
    """

    base_filters: int = option(16, help="Filters of the generator's first layer.", minimum=1)
    normalization: Normalization = option("none", help="Normalization in the generator's hidden layers.")
    residual: bool = option(True, help="The generator adds its output to its input, and starts as the identity.")
    upsampling: Upsampling = option("resize", help="How the decoder doubles the size; only transposed can write a lattice.")
    full_resolution: bool = option(True, help="A last layer at full resolution that sees the input beside the decoder.")
    adjacent_slices: int = option(
        0, help="Slices before and after each that the generator sees too (2.5 D).", minimum=0, maximum=MAX_ADJACENT
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def channels(self) -> int:
        """Number of slices that G sees."""
        return 1 + 2 * self.adjacent_slices


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Architecture of the discriminator.

    Attributes:
        base_filters: Filters of the first layer; 0: as many as the generator has.
        spectral: Whether every convolution is spectrally normalized.
        conditional: Whether the discriminator sees the source beside the patch it judges, as in cGAN.
        high_pass: Whether it sees only the fine detail of a patch.
    Raises:
        UsageError: If a value is out of its range.
    """

    base_filters: int = option(
        0,
        help="Filters of the discriminator's first layer; 0: as many as the generator.",
        minimum=0,
        flag="discriminator_filters",
    )
    spectral: bool = option(False, help="Spectral normalization keeps the discriminator 1-Lipschitz.")
    conditional: bool = option(False, help="The discriminator sees the source beside the patch it judges (cGAN).")
    high_pass: bool = option(False, help="The discriminator sees only the fine detail of a patch.")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LossSettings:
    """Weights and switches of Eqs. 1 - 6.

    Attributes:
        adversarial_weight: Weight of L_adv(G) in Eq. 6 (1 in the paper; 1 : 100 to L1 in the authors' code).
        feature_weight: lambda1 of Eq. 3.
        latent_weight: lambda2 of Eq. 6.
        l1_weight: lambda3 of Eq. 6.
        texture_weight: Weight of the texture loss (ours).
        squared_weight: Weight of the mean squared difference (ours).
        local_mean_weight: Weight of the L1 loss of means over squares of 16 pixels, which holds the HU of tissues where D, or
            the texture loss, sees fine detail alone (ours).
        low_pass_weight: Weight of the L1 loss of means over squares of 4 pixels, which holds anatomy where D, without pairs,
            judges texture alone (ours).
        unpaired: Whether source and target patches show different patients: losses other than D's and the texture loss then
            hold G's output to G's input, not to the target (ours).
        mask_losses: Whether losses ignore air outside the field of view and pixels above 900 HU (ours).
        adversarial_ratio: If above 0, the norm of the gradient of L_adv(G) at G's output relative to that of L1, or without
            pairs to 1 a pixel; the weight follows from it step by step, and `adversarial_weight` is not used (ours).
        adversarial: `wgan` (Eqs. 1, 4), `cross_entropy` (GANai), or `relativistic`: Eqs. 1 and 4 for pairs of patches of the
            same place, inside a softplus (ours).
        critic_output: Whether the critic value f is the `logit` difference or the `probability`.
        maximize_feature_loss: Whether D maximizes L_feat (Eq. 3 adds it to the ascended Eq. 1) or minimizes it.
        latent_stop_gradient: Whether the gradient through z(x) is stopped, so that G's encoder cannot win by shrinking z.
        lipschitz: Whether D's weights are clipped, or its gradients are drawn to norm 1 between target and synthesized patches
            (`gradient_penalty`), or to 0 at both (`zero_centered`).
        penalty_weight: Weight of the penalty.
        discriminator_shift: Numbers of rows and columns, below this, by which all patches that D sees in a step are rolled;
            they are drawn in every step, so that the strides of D leave no lattice in the output of G (ours). 0: none.
        penalty_interval: Steps of D from one with a penalty to the next; the penalty counts as many times.
    Raises:
        UsageError: If a value is out of its range.
    """

    adversarial_weight: float = option(0.003, help="Weight of L_adv(G) in Eq. 6.", minimum=0)
    adversarial_ratio: float = option(
        0.0, help="Gradient of L_adv(G) at G's output relative to that of L1, in place of a weight; 0: the weight.", minimum=0
    )
    feature_weight: float = option(0.01, help="lambda1 of Eq. 3, weight of the feature loss.", minimum=0)
    latent_weight: float = option(0.01, help="lambda2 of Eq. 6, weight of the latent loss.", minimum=0)
    l1_weight: float = option(1.0, help="lambda3 of Eq. 6, weight of the L1 loss.", minimum=0)
    texture_weight: float = option(0.15, help="Weight of the loss on relative errors of texture features.", minimum=0)
    squared_weight: float = option(0.0, help="Weight of the mean squared difference.", minimum=0)
    local_mean_weight: float = option(0.0, help="Weight of the L1 loss of means over squares of 16 pixels.", minimum=0)
    low_pass_weight: float = option(0.0, help="Weight of the L1 loss of means over squares of 4 pixels.", minimum=0)
    unpaired: bool = option(False, help="Sources and targets are of different patients: losses hold G to its input.")
    mask_losses: bool = option(True, help="Losses ignore air outside the field of view and pixels above 900 HU.")
    adversarial: Adversarial = option("cross_entropy", help="Eqs. 1 and 4 (wgan), GANai's, or the paired loss.")
    critic_output: CriticOutput = option("logit", help="Critic value of the wgan loss: logit difference or P(real).")
    maximize_feature_loss: bool = option(True, help="The discriminator maximizes the feature loss (Eq. 3), or minimizes it.")
    latent_stop_gradient: bool = option(False, help="Stops the gradient through z(x) in Eq. 5.")
    lipschitz: Lipschitz = option("none", help="How the discriminator's training keeps it 1-Lipschitz; see also --spectral.")
    penalty_weight: float = option(10.0, help="Weight of the gradient penalty.", minimum=0)
    discriminator_shift: int = option(0, help="Patches that D sees are rolled by fewer rows and columns than this.", minimum=0)
    penalty_interval: int = option(
        1, help="Steps of D from one with a penalty to the next, which counts as many times.", minimum=1
    )

    def __post_init__(self) -> None:
        check(self)
