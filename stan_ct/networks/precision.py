"""Which number type the hidden layers compute in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]


def compute_dtype(precision: Precision) -> str:
    """Keras policy of hidden layers: `auto` is bfloat16 where the hardware multiplies it fast, else float32.

    The output layers, and everything in HU, are float32 in any case.
    """
    if precision == "auto":
        precision = "bfloat16" if _fast_bfloat16() else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _fast_bfloat16() -> bool:
    """An NVIDIA GPU of compute capability 8 or later, or a CPU with AMX or AVX-512 bfloat16."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0] >= 8
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags
