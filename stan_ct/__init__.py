"""STAN-CT: makes CT images of different reconstruction kernels comparable.

    import stan_ct

    model = stan_ct.load_model("default")
    for files in stan_ct.find_series("DICOM").series:
        result = model.standardize(stan_ct.load_series(files))
        result.write("OUT/series/" + files.name)

The names below are the public interface; each is imported when it is first used, so that `import stan_ct` is fast and loads
neither TensorFlow nor matplotlib. Research use only, not for diagnosis.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# TensorFlow, which reads this when it is imported, leaves oneDNN off on processors without AVX-512, where it is faster as well.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if TYPE_CHECKING:
    from stan_ct.adaptation.run import Adaptation, adapt
    from stan_ct.dicom.find import Inventory, find_series
    from stan_ct.dicom.refusal import Refusal, Refused
    from stan_ct.dicom.series import Series, SeriesFiles, load_series
    from stan_ct.errors import StanCTError, UsageError
    from stan_ct.evaluation.comparison import Comparison, compare
    from stan_ct.evaluation.sites.run import SiteComparison, compare_site_features, compare_sites
    from stan_ct.evaluation.sites.settings import SiteSettings
    from stan_ct.features.texture import texture_features
    from stan_ct.models.checksums import InvalidModel
    from stan_ct.reconstruction.checks import Finding
    from stan_ct.reconstruction.loading import load_model
    from stan_ct.reconstruction.standardize import Model, Standardized

_HOME = {
    "find_series": "dicom.find",
    "load_series": "dicom.series",
    "Inventory": "dicom.find",
    "SeriesFiles": "dicom.series",
    "Series": "dicom.series",
    "load_model": "reconstruction.loading",
    "adapt": "adaptation.run",
    "Adaptation": "adaptation.run",
    "Model": "reconstruction.standardize",
    "Standardized": "reconstruction.standardize",
    "Finding": "reconstruction.checks",
    "texture_features": "features.texture",
    "compare": "evaluation.comparison",
    "Comparison": "evaluation.comparison",
    "compare_sites": "evaluation.sites.run",
    "compare_site_features": "evaluation.sites.run",
    "SiteComparison": "evaluation.sites.run",
    "SiteSettings": "evaluation.sites.settings",
    "Refused": "dicom.refusal",
    "Refusal": "dicom.refusal",
    "StanCTError": "errors",
    "UsageError": "errors",
    "InvalidModel": "models.checksums",
}
"""Public name -> module that defines it."""

__all__ = [
    "Adaptation",
    "Comparison",
    "Finding",
    "InvalidModel",
    "Inventory",
    "Model",
    "Refusal",
    "Refused",
    "Series",
    "SeriesFiles",
    "SiteComparison",
    "SiteSettings",
    "StanCTError",
    "Standardized",
    "UsageError",
    "__version__",
    "adapt",
    "compare",
    "compare_site_features",
    "compare_sites",
    "find_series",
    "load_model",
    "load_series",
    "texture_features",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stan_ct' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"stan_ct.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
