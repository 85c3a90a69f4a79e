"""Display of a run: tables, TensorBoard, a progress line, and a line for each version."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stan_ct.training.history import Board, Table, history_columns, image_panel
from stan_ct.training.quality import QUALITY
from stan_ct.training.validation import Judgement

SHOWN_EVERY = 20
"""Number of steps between updates of the progress line and of TensorBoard."""


class Display:
    """Tables, TensorBoard and progress line of one run.

    Not Keras' CSVLogger and TensorBoard callbacks: those write by epoch and start anew, while these tables have a row for every
    step of either side and, after a resume, drop the rows after its checkpoint.

    Args:
        folder: Model folder; None in a process that does not write.
        networks: Number of generators and of discriminators.
        source_errors: Errors of the validation sources, the first row of `validation.csv`.
        rows: Number of rows to keep of each table.
        batch_size: Number of patches in a step.
        source_quality: Quality of the validation sources.
    """

    def __init__(
        self,
        folder: Path | None,
        networks: tuple[int, int],
        source_errors: dict[str, float],
        rows: dict[str, int],
        batch_size: int,
        source_quality: dict[str, float] | None = None,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        root, self._source = folder or Path(self._scratch.name), float(np.mean(list(source_errors.values())))
        columns = {
            "history": history_columns(*networks),
            "validation": ["version", "step", "g", "score", "error", *source_errors, *QUALITY],
        }
        self._tables = {name: Table(root / f"{name}.csv", columns[name], rows[name]) for name in columns}
        if not rows["validation"]:
            self._tables["validation"].write(
                version=0, step=0, g="source", score=1.0, error=self._source, **source_errors, **(source_quality or {})
            )
        self._board = Board(root / "tensorboard")
        self._bar = tqdm(total=1.0, bar_format="{percentage:3.0f} % |{bar:10}| {desc}", disable=None if folder else True)
        self._talks, self._batch_size, self._shown, self._said = folder is not None, batch_size, time.monotonic(), ""

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each table."""
        return {name: table.rows for name, table in self._tables.items()}

    @property
    def due(self) -> bool:
        """Whether the progress line shows the next step."""
        return self._tables["history"].rows % SHOWN_EVERY == 0

    def step(
        self, step: int, position: int, marks: dict[str, Any], terms: dict[str, float], row: dict[str, float], **more: float
    ) -> None:
        """Records one step of either side.

        Args:
            step: Number of steps of G.
            position: Number of batches seen.
            marks: Phase, number of phases, attempt and version.
            terms: Loss terms.
            row: Loss terms and P(real), for the table.
            more: Further numbers for TensorBoard.
        """
        due, phase = self.due, marks["phase"]
        self._tables["history"].write(step=step, **marks, **row)
        if due:
            self._board.scalars(position, {**row, **more, "phase": float(phase == "g")}, "train/")
            shown = " ".join(f"{name} {value:.4f}" for name, value in terms.items() if not name.startswith("total"))
            judged = " ".join(f"{value:.3f}" for name, value in row.items() if name.startswith("p_real"))
            self._said = f"version {marks['version']}, step {step}, {phase.upper()}-phase | {shown} | P(real) {judged}"

    def bar(self, used: float, seconds: float) -> None:
        """Updates the progress line, if it is due, with time left, patches per second and the last step recorded.

        Args:
            used: Fraction of the run that is used up.
            seconds: Seconds that took.
        """
        if not self._said:
            return
        now = time.monotonic()
        speed = SHOWN_EVERY * self._batch_size / max(now - self._shown, 1e-9)
        left = tqdm.format_interval(int(seconds / used * (1 - used))) if used else "?"
        self._bar.n = used
        self._bar.set_description_str(f"{left} left, {speed:.0f} patches/s | {self._said}")
        self._shown, self._said = now, ""

    def version(
        self, version: int, step: int, minutes: float, judged: dict[int, Judgement], best: float, busy: float, patch: tuple
    ) -> None:
        """Records a version of G: rows, scalars, an image panel, and a line that stays on terminals and in log files.

        Args:
            version: Number of the version.
            step: Number of steps of G.
            minutes: Minutes of training.
            judged: Validation results by copy of G.
            best: Lowest score before.
            busy: Fraction of the time spent in steps of the networks.
            patch: Source, output and target, (H, W) HU each.
        """
        for copy, judgement in judged.items():
            numbers = {"score": judgement.score, "error": judgement.error, **judgement.errors, **judgement.quality}
            self._tables["validation"].write(version=version, step=step, g=copy, **numbers)
            self._board.scalars(step, numbers, f"validation/g{copy}/")
        self._board.image(step, image_panel(*patch))
        errors = " ".join(f"{judgement.error:.4f}" for judgement in judged.values())
        scores = " ".join(f"{judgement.score:.3f}" for judgement in judged.values())
        rank = "the best so far" if min(j.score for j in judged.values()) < best else f"best {best:.3f}"
        when = f"version {version}, step {step}, {minutes:.1f} min, {busy:.0%} of the loop in steps"
        if self._talks:
            self._bar.write(f"{when}: validation error {errors} (source {self._source:.4f}), score {scores}, {rank}")

    def flush(self) -> None:
        """Puts all rows on the disk."""
        for table in self._tables.values():
            table.flush()

    def close(self) -> None:
        """Closes tables, TensorBoard files and progress line."""
        for table in self._tables.values():
            table.close()
        self._board.close()
        self._bar.close()
        self._scratch.cleanup()
