"""Number type of the hidden layers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def compute_dtype(precision: Precision) -> str:
    """Keras policy of hidden layers: `auto` is the half precision that the hardware multiplies fast, else float32.

    The output layers, and everything in HU, are float32 in any case; float16 needs loss scaling in training.
    """
    precision = resolved_precision(precision)
    return precision if precision == "float32" else f"mixed_{precision}"


def resolved_precision(precision: Precision) -> Precision:
    """The number type itself where it is `auto`, the one that TensorFlow computes fast on this machine."""
    return _fast_type() if precision == "auto" else precision


def may_have_gpu() -> bool:
    """Whether the machine has a device for which TensorFlow should be asked."""
    return any(Path("/dev", name).exists() for name in ("nvidia0", "nvidiactl", "dxg"))


def _fast_type() -> Precision:
    """bfloat16 on an NVIDIA GPU of compute capability 8 or later or a CPU with AMX or AVX-512 bfloat16, float16 on one of 7."""
    if may_have_gpu():  # else TensorFlow would find none, slowly
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
            return "bfloat16" if capability >= 8 else "float16" if capability == 7 else "float32"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"
