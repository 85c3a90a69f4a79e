"""One step of D and one of G, here and in PyTorch: `python benchmarks/torch_step.py [--rounds=15] [--filters 32 64] [--all]`.

The competition of one G and one D, compiled as the trainer does, against a hand-written PyTorch twin: the same networks, losses
and Adam, batches of 8 patches, hidden layers in bfloat16. First both start from the same weights in float32, and every loss
term of two rounds must agree within 1e-4. Then they take turns, step by step, since other processes may slow down the machine
at any time. A round is a step of D and a step of G; the table has medians, the fastest step and processor time for both widths,
with the losses of the shipped models (cross-entropy) and with the paper's (WGAN, spectral normalization). `--all` times PyTorch
in its own memory format (channels first) and compiled too; the fastest way counts.

Ends with 1 if TensorFlow takes more than 1.1 times as long, by medians, or without PyTorch, which nothing else here needs:
`pip install "torch==2.13.*"`.

PyTorch's threads wait for each other within each operation, and lose far more than TensorFlow's where another process uses the
cores. On a busy machine compare one thread each: OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1.
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from stan_ct.quiet import quiet_start

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    sys.exit('PyTorch is missing: pip install "torch==2.13.*"')

with quiet_start():
    import keras
    import tensorflow as tf

    from stan_ct.networks.config import DiscriminatorConfig, GeneratorConfig, LossSettings
    from stan_ct.networks.discriminator import HIDDEN_STRIDES, Discriminator, build_discriminator
    from stan_ct.networks.generator import Generator, build_generator
    from stan_ct.networks.shapes import BOTTLENECK_FILTERS, ENCODER_FILTERS, HIDDEN_FILTERS
    from stan_ct.training.competition import Competition
    from stan_ct.training.phases import Phase
    from stan_ct.training.strategy import choose_strategy

    tf.config.list_physical_devices("GPU")  # looks for them now

WANTED, TOLERANCE, BATCH = 1.1, 1e-4, 8
LOSSES = {
    "cross-entropy": (False, LossSettings(adversarial="cross_entropy", texture_weight=0.0, mask_losses=False)),
    "WGAN, spectral": (True, LossSettings(adversarial="wgan", texture_weight=0.0, mask_losses=False)),
}
"""Name -> whether D is spectrally normalized, and the losses: those that the twin has."""
Step = Callable[[], dict[str, float]]


class TorchGenerator(nn.Module):
    """`stan_ct.networks.generator.Generator` without normalization; (B, 1, H, W)."""

    def __init__(self, base: int) -> None:
        super().__init__()
        down = [f * base for f in ENCODER_FILTERS]
        bottleneck, up = BOTTLENECK_FILTERS * base, down[::-1]
        self.encoder = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in zip([1, *down], down, strict=False))
        self.bottleneck = nn.Conv2d(down[-1], bottleneck, 4, 2, 1)
        seen = [bottleneck, *(2 * n for n in up)]  # a decoder layer sees the one before it and that one's skip
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in zip(seen, up, strict=False))
        self.output_layer = nn.ConvTranspose2d(seen[-1], 1, 4, 2, 1)

    def encode(self, x):
        """The latent and the skips."""
        skips = []
        for layer in self.encoder:
            x = functional.leaky_relu(layer(x), 0.2)
            skips.append(x)
        return functional.leaky_relu(self.bottleneck(x), 0.2), skips

    def forward(self, x):
        """Standardizes patches."""
        z, skips = self.encode(x)
        for layer, skip in zip(self.decoder, reversed(skips), strict=True):
            z = torch.cat([functional.leaky_relu(layer(z), 0.2), skip], 1)
        with torch.autocast("cpu", enabled=False):
            return torch.tanh(self.output_layer(z.float()))

    def load(self, network: Generator) -> None:
        """Takes the weights of the original."""
        layers = [layer.convolution for layer in (*network.encoder, network.bottleneck, *network.decoder)]
        ours = [*self.encoder, self.bottleneck, *self.decoder, self.output_layer]
        _load(ours, [*layers, network.output_layer])


class TorchDiscriminator(nn.Module):
    """`stan_ct.networks.discriminator.Discriminator`; (B, 1, H, W)."""

    def __init__(self, base: int, spectral: bool) -> None:
        super().__init__()
        filters = [f * base for f in HIDDEN_FILTERS]
        shapes = zip([1, *filters], filters, HIDDEN_STRIDES, strict=False)
        # With stride 1, both frameworks' "same" pads one row before and two after.
        self.hidden = nn.ModuleList(nn.Conv2d(i, o, 4, s, 1 if s == 2 else "same") for i, o, s in shapes)
        self.output_layer = nn.Conv2d(filters[-1], 2, 4, 1, "same")
        self.spectral, self.u = spectral, []

    def forward(self, x):
        """Features and logits."""
        for layer in self.hidden:
            x = functional.leaky_relu(layer(x), 0.2)
        with torch.autocast("cpu", enabled=False):
            return x, self.output_layer(x.float())

    @torch.no_grad()
    def normalize(self) -> None:
        """Divides each kernel by its largest singular value, one power iteration, as Keras does: in place, without gradient."""
        for layer, u in zip([*self.hidden, self.output_layer], self.u, strict=True):
            weights = layer.weight.permute(0, 2, 3, 1).flatten(1)  # (out, 16 in)
            v = functional.normalize(u @ weights, dim=1)
            u.copy_(functional.normalize(v @ weights.T, dim=1))
            layer.weight.div_((v @ weights.T @ u.T).squeeze())

    def load(self, network: Discriminator) -> None:
        """Takes the weights of the original."""
        layers = [*(layer.convolution for layer in network.hidden), network.output_layer]
        self.u = [torch.tensor(np.asarray(layer.vector_u)) for layer in layers] if self.spectral else []
        _load([*self.hidden, self.output_layer], [layer.layer for layer in layers] if self.spectral else layers)


@torch.no_grad()
def _load(ours: list[nn.Module], theirs: list[keras.Layer]) -> None:
    """Kernels, (4, 4, in, out) of a convolution and (4, 4, out, in) of its transpose, and biases."""
    for our, their in zip(ours, theirs, strict=True):
        our.weight.copy_(torch.tensor(np.asarray(their.kernel)).permute(3, 2, 0, 1))
        our.bias.copy_(torch.tensor(np.asarray(their.bias)))


class TorchCompetition:
    """`Competition` of one G and one D: `d_step`, `g_step`."""

    def __init__(
        self, original: Competition, base: int, spectral: bool, half: bool, memory_format: torch.memory_format, compiled: bool
    ) -> None:
        self.settings, self.half, self.memory_format = original.loss_settings, half, memory_format
        self.g, self.d = TorchGenerator(base), TorchDiscriminator(base, spectral)
        self.optimizers, self.made = {}, {self.g: 0, self.d: 0}
        for network, theirs in ((self.g, original.generators[0]), (self.d, original.discriminators[0])):
            network.load(theirs)
            network.to(memory_format=memory_format)
            self.optimizers[network] = torch.optim.Adam(network.parameters(), 1e-4, (0.5, 0.999), fused=True)
        self._d_terms, self._g_terms = self._terms_of_d, self._terms_of_g
        if compiled:
            self._d_terms, self._g_terms = torch.compile(self._terms_of_d), torch.compile(self._terms_of_g)

    def d_step(self, source: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        """Trains D alone."""
        if self.d.spectral:
            self.d.normalize()
        return self._step(self.d, self.g, self._d_terms, source, target)

    def g_step(self, source: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        """Trains G alone."""
        return self._step(self.g, self.d, self._g_terms, source, target)

    def _step(self, network: nn.Module, other: nn.Module, terms: Callable, source, target) -> dict[str, float]:
        network.requires_grad_(True)
        other.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logs = terms(source, target)
        logs["total_d" if network is self.d else "total_g"].backward()
        optimizer, self.made[network] = self.optimizers[network], self.made[network] + 1
        # Keras adds epsilon before it corrects the second moment for its start at zero, PyTorch afterwards.
        optimizer.param_groups[0]["eps"] = 1e-7 / (1 - 0.999 ** self.made[network]) ** 0.5
        optimizer.step()
        optimizer.zero_grad()
        return {name: value.item() for name, value in logs.items()}

    def _terms_of_d(self, source, target) -> dict[str, torch.Tensor]:
        settings = self.settings
        with torch.no_grad():
            synthesized = self.g(source)
        features, logits = self.d(torch.cat([target, synthesized]).contiguous(memory_format=self.memory_format))
        (real_features, fake_features), (real, fake) = features.chunk(2), logits.chunk(2)
        if settings.adversarial == "cross_entropy":
            adversarial = -functional.log_softmax(real, 1)[:, 1].mean() - functional.log_softmax(fake, 1)[:, 0].mean()
        else:
            adversarial = (fake[:, 1] - fake[:, 0]).mean() - (real[:, 1] - real[:, 0]).mean()
        feature = (fake_features.float() - real_features.float()).abs().mean()
        return {
            "adversarial_d": adversarial,
            "feature": feature,
            "total_d": adversarial - settings.feature_weight * feature,
            "p_real_target": real.softmax(1)[:, 1].mean(),
            "p_real_synthesized": fake.softmax(1)[:, 1].mean(),
        }

    def _terms_of_g(self, source, target) -> dict[str, torch.Tensor]:
        settings = self.settings
        synthesized = self.g(source)
        _, logits = self.d(synthesized)
        if settings.adversarial == "cross_entropy":
            adversarial = -functional.log_softmax(logits, 1)[:, 1].mean()
        else:
            adversarial = -(logits[:, 1] - logits[:, 0]).mean()
        latent = (self.g.encode(target)[0].float() - self.g.encode(synthesized)[0].float()).abs().mean()
        l1 = (target - synthesized).abs().mean()
        total = settings.adversarial_weight * adversarial + settings.latent_weight * latent + settings.l1_weight * l1
        judged = logits.softmax(1)[:, 1].mean()
        return {"adversarial_g": adversarial, "latent": latent, "l1": l1, "total_g": total, "p_real_synthesized": judged}


def tensorflow_steps(model: Competition, batch: tuple) -> tuple[Step, Step]:
    """D's and G's step as the trainer calls them."""

    tensors = tuple(map(tf.constant, batch))

    def step(phase: Phase) -> dict[str, float]:
        model.phase, model.active = phase, (0,)
        logs = {name: value.numpy().item() for name, value in model.run_step(tensors).items()}
        return {name.removesuffix("_d0_g0").removesuffix("_d0"): value for name, value in logs.items()}

    return partial(step, "d"), partial(step, "g")


def torch_steps(model: TorchCompetition, batch: tuple) -> tuple[Step, Step]:
    """The twin's steps on the same batch."""
    moved = (torch.tensor(patches).permute(0, 3, 1, 2).contiguous(memory_format=model.memory_format) for patches in batch)
    tensors = tuple(moved)
    return lambda: model.d_step(*tensors), lambda: model.g_step(*tensors)


def original(strategy: tf.distribute.Strategy, base: int, spectral: bool, losses: LossSettings, dtype: str) -> Competition:
    """One G and one D; from He's start, since narrow networks all but silence a signal from N(0, 0.02)."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        d = build_discriminator(DiscriminatorConfig(base, spectral), "he", dtype)
        g = build_generator(GeneratorConfig(base, residual=False, upsampling="transposed", full_resolution=False), "he", dtype)
        model = Competition([g], [d])
        model.compile(losses)
        return model


def largest_difference(
    strategy: tf.distribute.Strategy, base: int, spectral: bool, losses: LossSettings, batch: tuple
) -> float:
    """Between the loss terms of two rounds in float32, in units of terms above 1; the second shows the same updates."""
    model = original(strategy, base, spectral, losses, "float32")
    twin = TorchCompetition(model, base, spectral, half=False, memory_format=torch.channels_last, compiled=False)
    pairs = list(zip(tensorflow_steps(model, batch), torch_steps(twin, batch), strict=True)) * 2
    return max(
        abs(ours[name] - theirs[name]) / max(1, abs(theirs[name]))
        for our, their in pairs
        for ours, theirs in [(our(), their())]
        for name in ours
    )


def round_times(ways: dict[str, tuple[Step, Step]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each way, which take turns: (2, rounds, 2), D's and G's steps, by the clock and of processors."""
    seconds: dict[str, tuple[list, list]] = {name: ([], []) for name in ways}
    for number in range(rounds + 2):  # two to trace, compile and warm up
        for step in (0, 1):
            for name in ways:
                start = time.perf_counter(), time.process_time()
                ways[name][step]()
                if number > 1:
                    seconds[name][step].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {name: np.array(values) for name, values in seconds.items()}


def compare(ways: dict[str, tuple[Step, Step]], rounds: int) -> float:
    """Prints a table; TensorFlow's median time of a round in units of the fastest other way's."""
    print(f"{'':24} {'D':>7}{'G':>7}{'D + G':>7}  fastest  processors")
    sums = {}
    for way, seconds in round_times(ways, rounds).items():
        (d, processors_d), (g, processors_g) = np.median(seconds, 1)
        sums[way] = np.array([d + g, seconds[..., 0].min(1).sum(), processors_d + processors_g])
        print(f"{way:24} {d:7.2f}{g:7.2f}{d + g:7.2f}{sums[way][1]:9.2f}{sums[way][2]:12.2f}")
    ratios = sums.pop("TensorFlow") / min(sums.values(), key=lambda times: times[0])
    print(f"{'TensorFlow / PyTorch':24} {ratios[0]:21.2f}{ratios[1]:9.2f}{ratios[2]:12.2f}  (at most {WANTED})", flush=True)
    return ratios[0]


def main() -> int:
    """Reads the flags, prints a table for each width and loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--all", action="store_true")
    settings = parser.parse_args()
    warnings.filterwarnings(
        "ignore", "Using padding='same' with even kernel", UserWarning
    )  # that copy is what TensorFlow makes
    tf.get_logger().setLevel("ERROR")  # it warns of functions traced often, one for each model
    rng, strategy, worst = np.random.default_rng(0), choose_strategy(), 0.0
    batch = tuple(rng.uniform(-1, 1, (BATCH, 256, 256, 1)).astype(np.float32) for _ in range(2))
    twins = {"PyTorch, channels last": (torch.channels_last, False)}
    if settings.all:
        twins |= {"PyTorch, channels first": (torch.contiguous_format, False), "PyTorch, compiled": (torch.channels_last, True)}
    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads; seconds, medians")
    for base, (name, (spectral, losses)) in itertools.product(settings.filters, LOSSES.items()):
        difference = largest_difference(strategy, base, spectral, losses, batch)
        print(f"\n{base} filters, {name}: loss terms in float32 differ by {difference:.1e} at most")
        if difference > TOLERANCE:
            sys.exit(f"the networks are not the same: {difference} is more than {TOLERANCE}")
        model = original(strategy, base, spectral, losses, "mixed_bfloat16")
        ways = {"TensorFlow": tensorflow_steps(model, batch)}
        for twin, (memory_format, compiled) in twins.items():
            ways[twin] = torch_steps(TorchCompetition(model, base, spectral, True, memory_format, compiled), batch)
        worst = max(worst, compare(ways, settings.rounds))
    return int(worst > WANTED)


if __name__ == "__main__":
    sys.exit(main())
