"""`stan-ct --version`: everything that a bug report needs, without importing any of it."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stan_ct import __version__
from stan_ct.models.folder import shipped_models
from stan_ct.parallel import usable_cores

PACKAGES = (
    *("tensorflow", "keras", "numpy", "scipy", "scikit-image", "opencv-python-headless", "pydicom", "python-gdcm", "pyjpegls"),
    *("pylibjpeg-openjpeg", "pylibjpeg-rle", "onnx", "onnxruntime", "openvino", "highdicom", "nibabel", "scikit-learn", "mirp"),
)


def version_text() -> str:
    """Version of STAN-CT, of Python, of the packages it uses and of the models that ship."""
    lines = [f"STAN-CT {__version__} in {Path(__file__).resolve().parents[1]}"]
    lines += [f"Python {platform.python_version()}, {platform.platform()}, {usable_cores()} usable cores"]
    lines += [f"{name} {_installed(name)}" for name in PACKAGES]
    lines += [f"model {model.name} {model.hash[:8]}" for model in shipped_models()]
    return "\n".join(lines)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


if __name__ == "__main__":
    sys.stdout.write(version_text() + "\n")
