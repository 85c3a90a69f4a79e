"""The tables of an evaluation: `errors.csv` for programs, `errors.md` for readers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stan_ct.evaluation.glcm import ANGLES, DISTANCE, FEATURES
from stan_ct.evaluation.metrics import IMAGES, Measurement, Summary, summarize


def write_tables(measurement: Measurement, output_dir: Path, command: str, flags: str) -> str:
    """Writes `errors.csv`, `errors.md` and `evaluate.flags`; they appear complete or not at all.

    Args:
        measurement: From :func:`~stan_ct.evaluation.metrics.measure`.
        output_dir: Made if it does not exist.
        command: The command line, printed in the Markdown table.
        flags: The effective flags, one a line.
    Returns:
        The text of `errors.md`.
    Raises:
        OSError: If the directory cannot be written.
    """
    table = markdown(measurement, command)
    write_together(output_dir, {"errors.csv": csv(measurement), "errors.md": table, "evaluate.flags": flags})
    return table


def write_together(output_dir: Path, texts: Mapping[str, str]) -> None:
    """Writes text files by name; none takes its name before all are on disk."""
    output_dir.mkdir(parents=True, exist_ok=True)
    unfinished = {name: output_dir / f".{name}.{os.getpid()}" for name in texts}
    try:
        for name, text in texts.items():
            unfinished[name].write_text(text, encoding="utf-8")
        for name in texts:
            os.replace(unfinished[name], output_dir / name)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def csv(measurement: Measurement) -> str:
    """One line per image and feature: `image,feature,mean,sd,n`, n being the number of defined errors."""
    lines = ["image,feature,mean,sd,n"]
    for image in IMAGES:
        for feature, s in zip(FEATURES, _summaries(measurement, image), strict=True):
            lines.append(f"{image},{feature},{s.mean:.9g},{s.sd:.9g},{s.n}")
    return "\n".join(lines) + "\n"


def markdown(measurement: Measurement, command: str) -> str:
    """The table as in the paper (features in columns), with all that is needed to read and repeat it."""
    return "\n\n".join(
        [
            "# Errors of texture features against the target (Eq. 8)",
            _errors(measurement),
            "Mean ± standard deviation over patches of |φ(image) - φ(target)| / |φ(target)|, φ a feature of the gray-level "
            "co-occurrence matrix; HU RMSE over the source's soft tissue. 0 is equal to the target.",
            _bullets("Settings", _settings(measurement)),
            _bullets("Left out", _left_out(measurement) or ["nothing"]),
            f"```\n{command}\n```\n",
        ]
    )


def _errors(measurement: Measurement) -> str:
    lines = [f"| image | {' | '.join(FEATURES)} | HU RMSE |", "|---" * (len(FEATURES) + 2) + "|"]
    for image in IMAGES:
        cells = " | ".join(f"{s.mean:.3f} ± {s.sd:.3f}" for s in _summaries(measurement, image))
        lines.append(f"| {image} | {cells} | {measurement.rmse[image]:.1f} |")
    return "\n".join(lines)


def _settings(measurement: Measurement) -> list[str]:
    s = measurement.settings
    return [
        f"{measurement.patches} patches of {s.patch_size} x {s.patch_size} pixels (or the whole of a smaller slice), stride "
        f"{s.stride}, at least {s.min_soft_tissue:.0%} of the source's pixels soft tissue",
        f"{measurement.slices} slices",
        f"gray levels: {s.discretization}",
        f"co-occurrence: distance {DISTANCE} pixel, angles {', '.join(map(str, ANGLES))} degrees, symmetric, normalized, "
        "features averaged over the angles",
    ]


def _left_out(measurement: Measurement) -> list[str]:
    undefined = [
        f"{s.undefined} undefined errors of {image} {feature}: the target's feature is 0"
        for image in IMAGES
        for feature, s in zip(FEATURES, _summaries(measurement, image), strict=True)
        if s.undefined
    ]
    return [f"{count} {reason}" for reason, count in measurement.left_out.items()] + undefined


def _bullets(title: str, lines: list[str]) -> str:
    return f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines)


def _summaries(measurement: Measurement, image: str) -> list[Summary]:
    return [summarize(errors) for errors in measurement.errors[image].T]
