"""Records of a run: `history.csv`, `validation.csv` and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import tensorflow as tf

TERMS = (
    "total_d",
    "adversarial_d",
    "feature",
    "penalty",
    "total_g",
    "adversarial_g",
    "adversarial_weight",
    "latent",
    "l1",
    "squared",
    "local_mean",
    "low_pass",
    "texture",
)
PANELS = ((-1350.0, 150.0), (-160.0, 240.0))
"""Display windows of the image panel, (low, high) HU."""


class Table:
    """A CSV file that grows by rows; a resumed run drops the rows after its checkpoint.

    Args:
        path: CSV file.
        columns: Names of the columns.
        rows: Number of existing rows to keep.
    """

    def __init__(self, path: Path, columns: list[str], rows: int) -> None:
        kept = path.read_text().splitlines(keepends=True)[: rows + 1] if path.exists() and rows else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "w", newline="")  # noqa: SIM115 (closed by close)
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
        if kept:
            self._file.write("".join(kept))
        else:
            self._writer.writeheader()
        self.rows = rows if kept else 0

    def write(self, **values: object) -> None:
        """Adds a row; numbers with six digits."""
        self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
        self.rows += 1

    def flush(self) -> None:
        """Puts all rows on the disk."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def history_columns(generators: int, discriminators: int) -> list[str]:
    """Columns of `history.csv`: D-phases fill the terms of D, G-phases those of G; `latent_validation` now and then.

    The last row of a phase tells how it `ended`, `won` or `gave_up`, and the accuracy of each D on validation patches: the
    share of places where it orders the target above the output of each G, and above the source as the Gs see it.
    """
    judged = [f"p_real_target_d{d}" for d in range(discriminators)]
    judged += [f"p_real_synthesized_d{d}_g{g}" for d in range(discriminators) for g in range(generators)]
    others = [f"g{g}" for g in range(generators)] + ["source"]
    ordered = [f"accuracy_d{d}_{other}" for d in range(discriminators) for other in others]
    return ["step", "phase", "phases", "attempt", "version", "ended", *TERMS, "latent_validation", *judged, *ordered]


def image_panel(source: np.ndarray, output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Source | output | target | output - target, in two windows, (2 H, 4 W) in [0, 1], of one patch (H, W) HU."""
    rows = []
    for low, high in PANELS:
        shown = [np.clip((image - low) / (high - low), 0, 1) for image in (source, output, target)]
        rows.append(np.hstack([*shown, np.clip((output - target) / (high - low) + 0.5, 0, 1)]))
    return np.vstack(rows)


class Board:
    """TensorBoard: losses, rates and phase marks by step, errors and one image panel by version."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalars(self, step: int, values: dict[str, float], prefix: str = "") -> None:
        """Writes scalars of a step."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}{name}", value)

    def image(self, step: int, panel: np.ndarray) -> None:
        """Writes the image panel of a version."""
        with self._writer.as_default(step=step):
            tf.summary.image("source | output | target | difference", panel[None, ..., None].astype(np.float32))

    def close(self) -> None:
        """Closes the files."""
        self._writer.close()
