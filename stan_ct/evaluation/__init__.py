"""Evaluation of standardized CT against the target: texture, agreement, HU, image quality, readers.

    from pathlib import Path

    from stan_ct.evaluation import Evaluation, SeriesSettings, evaluate
    from stan_ct.report.files import write_report

    series = SeriesSettings(Path("SOURCE"), {"STAN-CT": Path("OUT/series")}, Path("TARGET"))
    report = evaluate(Evaluation(Path("REPORT"), series=series))
    write_report(report, Path("REPORT"))

The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stan_ct.evaluation.comparison import Comparison, ImageAgreement, compare
    from stan_ct.evaluation.measure.patches import Method
    from stan_ct.evaluation.measure.regions import RoiSettings
    from stan_ct.evaluation.measure.series import SeriesSettings
    from stan_ct.evaluation.run import evaluate
    from stan_ct.evaluation.settings import Evaluation

_HOME = {
    "Comparison": "comparison",
    "Evaluation": "settings",
    "ImageAgreement": "comparison",
    "Method": "measure.patches",
    "RoiSettings": "measure.regions",
    "SeriesSettings": "measure.series",
    "compare": "comparison",
    "evaluate": "run",
}
"""Public name -> module of this package that defines it."""

__all__ = ["Comparison", "Evaluation", "ImageAgreement", "Method", "RoiSettings", "SeriesSettings", "compare", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stan_ct.evaluation' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"stan_ct.evaluation.{_HOME[name]}"), name)
