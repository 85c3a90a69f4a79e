"""What to evaluate, and how: the settings of :func:`~stan_ct.evaluation.run.evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stan_ct.errors import NotComparable, UsageError
from stan_ct.evaluation.measure.patches import Method
from stan_ct.evaluation.measure.regions import RoiSettings
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.features.glcm import Discretization
from stan_ct.reconstruction.settings import TABLE_2


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and how. Give patch records and models, series, training folders, or several of these.

    Attributes:
        output_dir: Folder of what has been measured and reconstructed, which is kept for the next run; the report goes there.
        records_dirs: Folders of patch records (Table 1).
        models: Name -> model folder, or name of a model that ships, or a method of one's own: the rows of Table 1.
        split: Patches of the records: "train", "validation" or "test".
        series: DICOM series to compare; None for none.
        table_2_model: Model with which the source of `series` is reconstructed in each way of Table 2; None for no Table 2.
        regions: Regions of interest of `series`; None for none.
        histories: Name -> training folder (Figs. 3 and 5).
        ours: Row that the others are tested against; by default the last row, or of Table 2 `STAN-CT (default)`.
        data: What the images are, in words.
        include_training_slices: Whether slices that a model was trained on are compared too.
        real: Whether the images are of people; None if unknown. Series of our simulator are known not to be.
        discretization: Map from HU to gray levels of patches.
        resamples: Number of bootstrap samples of patients for confidence intervals.
        seed: Seed of the bootstrap.
        workers: Number of processes that measure.
        command: Command line, for the report's provenance.
        flags: Effective flags, one a line, for the report's provenance.
        created: Date and time, for the report's provenance.
    Raises:
        UsageError: If something is missing.
        NotComparable: If `ours` is no row, or two rows have the same name.
    """

    output_dir: Path
    records_dirs: Sequence[Path] = ()
    models: Mapping[str, Path | Method] = field(default_factory=dict)
    split: str = "test"
    series: SeriesSettings | None = None
    table_2_model: Path | None = None
    regions: RoiSettings | None = None
    histories: Mapping[str, Path] = field(default_factory=dict)
    ours: str = ""
    data: str = "CT"
    include_training_slices: bool = False
    real: bool | None = None
    discretization: Discretization = field(default_factory=Discretization.fixed_number)
    resamples: int = 10_000
    seed: int = 0
    workers: int = 1
    command: str = ""
    flags: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        self._check_inputs()
        self._check_rows()

    def _check_inputs(self) -> None:
        if bool(self.models) != bool(self.records_dirs):
            raise UsageError("Table 1 needs both --records_dir and --models")
        if self.table_2_model and not (self.series and self.series.target_dir):
            raise UsageError("--table_2_model needs --source_dir and --target_dir")
        if self.series and not (self.series.synthesized or self.table_2_model):
            raise UsageError("comparing series needs --source_dir, and --synthesized_dir or --table_2_model")
        if self.regions and not self.series:
            raise UsageError("--masks are regions of series: give --source_dir and what was made of it")
        if not (self.records_dirs or self.series or self.histories):
            raise UsageError(
                "nothing to evaluate: give --records_dir and --models, or --source_dir, or --histories; see --help"
            )

    def _check_rows(self) -> None:
        series = [*(self.series.synthesized if self.series else ()), *(TABLE_2 if self.table_2_model else ())]
        rows = [*self.models, *series]
        if self.ours and self.ours not in rows:
            raise NotComparable(f"there is no row {self.ours!r} to test the others against: choose one of {', '.join(rows)}")
        if duplicates := sorted(name for name, count in Counter(series).items() if count > 1):
            raise NotComparable(f"{duplicates[0]!r} is a row of Table 2: give the synthesized series another name")


def named_directories(items: Sequence[str]) -> dict[str, Path]:
    """Directories by name, from NAME=DIR, or DIR, which has its own name.

    Raises:
        UsageError: If two have the same name, or a name or directory is empty.
    """
    pairs = [item.partition("=")[::2] if "=" in item else (Path(item).resolve().name, item) for item in items]
    if not all(name.strip() and folder for name, folder in pairs):
        raise UsageError(f"expected NAME=DIR or DIR, got {', '.join(items)}")
    found = {name.strip(): Path(folder) for name, folder in pairs}
    if len(found) < len(pairs):
        raise UsageError(f"two directories have one name, {', '.join(name for name, _ in pairs)}: give NAME=DIR")
    return found
