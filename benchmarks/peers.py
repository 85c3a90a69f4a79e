"""What `speed.py` measures beside STAN-CT: networks in PyTorch, and a script that standardizes a series and checks nothing.

`python benchmarks/peers.py SERIES OUT` runs the script: each slice is filtered, MONAI's sliding window puts it through the
generator in PyTorch, and a DICOM file is written. That is the least that a user would write with the same filter and weights.
Needs the extra `bench`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout's package, whatever is installed

from stan_ct.models.checksums import SHIPPED  # noqa: E402
from stan_ct.models.folder import read_config, read_weights  # noqa: E402
from stan_ct.networks.shapes import (  # noqa: E402
    DETAIL_GAIN,
    ENCODER_FILTERS,
    HIDDEN_STRIDES,
    LEAK,
    discriminator_shapes,
    generator_shapes,
)

MODEL = SHIPPED / "default"
Networks = Callable[[np.ndarray], np.ndarray]
"""(N, 256, 256, 1) float32 in [-1, 1] -> of the generator the same shape, of the discriminator P(real), (N,)."""


def missing(*packages: str) -> str:
    """Names of packages that are not installed; empty if all are."""
    return ", ".join(name for name in packages if not find_spec(name))


def torch_network(label: str) -> Networks:
    """`generator` or `discriminator` of the model `default` in PyTorch, channels last, without gradients."""
    import torch

    make = {"generator": _generator, "discriminator": _discriminator}[label]
    network = make()

    def run(gray: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            made = network(torch.from_numpy(gray).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last))
            return (made.permute(0, 2, 3, 1) if made.ndim == 4 else made).numpy()

    return run


def _weights(label: str) -> Iterator:
    """Kernels and biases of a network, in turn."""
    import torch

    config = read_config(MODEL)
    shapes = generator_shapes(config.generator) if label == "generator" else discriminator_shapes(config.discriminator)
    return (torch.from_numpy(weight) for weight in read_weights(MODEL, label, shapes))


def _generator() -> Callable:
    """(N, 1, H, W) -> (N, 1, H, W), as :class:`stan_ct.networks.generator.Generator` with the switches of `default`."""
    import torch
    from torch.nn import functional

    weights = _weights("generator")
    layers = [_layer(weights) for _ in range(len(ENCODER_FILTERS) + 1)]
    doubling = [_layer(weights, doubles=True) for _ in ENCODER_FILTERS]
    detail, full_size, output = _layer(weights), _layer(weights, doubles=True), _layer(weights)

    def run(gray):
        skips, x = [], gray
        for kernel, bias in layers:
            skips.append(x)
            x = functional.leaky_relu(functional.conv2d(x, kernel, bias, 2, 1), LEAK)
        for (kernel, bias), skip in zip(doubling, reversed(skips[1:]), strict=True):
            x = torch.cat([functional.leaky_relu(functional.conv_transpose2d(x, kernel, bias, 2, 1), LEAK), skip], 1)
        x = functional.leaky_relu(functional.conv_transpose2d(x, *full_size, 2, 1), LEAK)
        x = torch.cat([x, functional.leaky_relu(functional.conv2d(gray, *detail, 1, 1), LEAK)], 1)
        return torch.clamp(gray + torch.tanh(functional.conv2d(x, *output, 1, 1)), -1, 1)

    return run


def _discriminator() -> Callable:
    """(N, 1, H, W) -> P(real), (N,), as :class:`stan_ct.networks.discriminator.Discriminator` of `default`."""
    from torch.nn import functional

    weights = _weights("discriminator")
    layers = [_layer(weights) for _ in (*HIDDEN_STRIDES, 1)]

    def run(gray):
        x = DETAIL_GAIN * (gray - functional.avg_pool2d(gray, 3, 1, 1, count_include_pad=False))
        for (kernel, bias), stride in zip(layers, (*HIDDEN_STRIDES, 1), strict=True):
            after = 1 if stride == 2 else 2
            x = functional.conv2d(functional.pad(x, (1, after, 1, after)), kernel, bias, stride)
            x = functional.leaky_relu(x, LEAK) if x.shape[1] > 2 else x
        return (x[:, 1] - x[:, 0]).sigmoid().mean((1, 2))

    return run


def _layer(weights: Iterator, doubles: bool = False) -> tuple:
    """Kernel and bias in PyTorch's order; a layer that doubles the size is a transposed convolution, see ResizeConvolution."""
    import torch

    kernel, bias = next(weights), next(weights)
    if not doubles:
        return kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last), bias
    turned = kernel.permute(2, 3, 0, 1).flip(2, 3)
    padded = torch.nn.functional.pad(turned, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1], bias


def network_times(label: str, rounds: int) -> dict[str, list[float]]:
    """Processor time of a network, ms a patch, in turn: what is installed of TensorFlow, engines and PyTorch, in one thread.

    Raises:
        ValueError: If two of them differ by more than .001.
    """
    from stan_ct.engines.engine import EXPORTED, load_engine
    from stan_ct.engines.tensorflow import TensorFlowNetworks

    reference = TensorFlowNetworks(MODEL, "float32", label == "discriminator", shared=True)
    if label == "generator":
        runs = {"tensorflow": lambda gray: reference(gray)[0]}
        for name in EXPORTED:
            if not missing(name):
                engine = load_engine(name, MODEL, "float32", judged=False, shared=True)
                runs[name] = lambda gray, engine=engine: engine(gray)[0]
    else:
        import tensorflow as tf

        from stan_ct.networks.discriminator import p_real

        judge = tf.function(lambda gray: p_real(reference.discriminator(gray, training=False)[1]))
        runs = {"tensorflow": lambda gray: judge(gray).numpy()}
    if not missing("torch"):
        import torch

        torch.set_num_threads(1)
        runs["torch"] = torch_network(label)
    gray = np.random.default_rng(0).uniform(-1, 1, (2, 256, 256, 1)).astype(np.float32)
    expected, times = runs["tensorflow"](gray), {name: [] for name in runs}
    for name, run in runs.items():
        if not (difference := np.abs(run(gray) - expected).max()) < 1e-3:
            raise ValueError(f"{label}: {name} differs from TensorFlow by {difference:.3g}")
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run(gray)
            times[name].append(1e3 * (time.process_time() - start) / len(gray))
    return times


def dissimilarity(name: str, levels: np.ndarray) -> Callable[[], float]:
    """Function that computes GLCM features of gray levels, (H, W), at distance 1 and four angles: the five, or MIRP's 25.

    Args:
        name: `radiomics` (pyradiomics) or `mirp`.
        levels: Gray levels, (H, W) int.
    Returns:
        Its dissimilarity, the mean over the angles.
    """
    if name == "radiomics":
        from radiomics.glcm import RadiomicsGLCM
        from SimpleITK import GetImageFromArray

        image, mask = (GetImageFromArray(array[None]) for array in (levels.astype(np.int32), np.ones_like(levels, np.uint8)))

        def of_radiomics() -> float:
            extractor = RadiomicsGLCM(image, mask, binWidth=1, force2D=True, force2Ddimension=0)
            extractor.disableAllFeatures()
            for feature in ("DifferenceAverage", "Contrast", "Id", "JointEnergy", "Correlation"):
                extractor.enableFeatureByName(feature)
            return float(extractor.execute()["DifferenceAverage"])

        return of_radiomics

    import logging

    from mirp import extract_features

    logging.disable(logging.INFO)  # two lines for each image, among those of the table
    volume, whole = levels[None].astype(np.float32), np.ones((1, *levels.shape), bool)
    rules = {"base_feature_families": ["cm"], "base_discretisation_method": "none", "glcm_spatial_method": "2d_average"}

    def of_mirp() -> float:
        (found,) = extract_features(image=volume, mask=whole, by_slice=True, **rules)
        return float(found.filter(like="cm_dissimilarity").iloc[0, 0])

    return of_mirp


def script(series: Path, output: Path) -> int:
    """Standardizes a series of kernel BR40, and returns the number of slices."""
    import pydicom
    import torch
    from monai.inferers import sliding_window_inference

    config, network = read_config(MODEL), _generator()
    output.mkdir(parents=True, exist_ok=True)
    paths = sorted(series.rglob("*.dcm"))
    uid = pydicom.uid.generate_uid()
    for path in paths:
        dataset = pydicom.dcmread(path)
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        hu = dataset.pixel_array.astype(np.float32) * slope + intercept
        filtered = config.front_end(hu, tuple(map(float, dataset.PixelSpacing)), "BR40")
        gray = torch.from_numpy(config.hu_window.to_network(filtered.astype(np.float32)))[None, None]
        with torch.inference_mode():
            made = sliding_window_inference(gray, (256, 256), 2, network, overlap=0.5, mode="gaussian")[0, 0].numpy()
        stored = np.round((config.hu_window.to_hu(made) - intercept) / slope)
        dataset.PixelData = np.clip(stored, 0, 4095).astype(dataset.pixel_array.dtype).tobytes()
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dataset.save_as(output / path.name)
    return len(paths)


if __name__ == "__main__":
    if lacking := missing("torch", "monai"):
        sys.exit(f"{lacking}: not installed: pip install -e '.[bench]'")
    print(f"{script(Path(sys.argv[1]), Path(sys.argv[2]))} slices")
