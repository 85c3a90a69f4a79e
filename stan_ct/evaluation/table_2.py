"""Rows of Table 2: the source, reconstructed by one model in each way of fusing its patches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.series import SeriesSettings
from stan_ct.reconstruction.run import ReconstructSettings, reconstruct
from stan_ct.reconstruction.settings import TABLE_2


def reconstruct_table_2(series: SeriesSettings, model: Path, folder: Path, command: str = "") -> SeriesSettings:
    """Reconstructs the source in each way of Table 2, unless that has been done before.

    Args:
        series: Series to compare.
        model: Model folder, or name of a model that ships.
        folder: Folder of the reconstructions, a folder for each row.
        command: Command line, for the manifests.
    Returns:
        The series, with each row of Table 2 among the synthesized ones.
    Raises:
        NotComparable: If nothing was standardized.
    """
    made = {
        row: reconstruct_row(series.source_dir, model, switches, folder / folder_name(row), command)
        for row, switches in TABLE_2.items()
    }
    return replace(series, synthesized={**series.synthesized, **made})


def reconstruct_row(source: Path, model: Path, switches: Mapping[str, Any], folder: Path, command: str = "") -> Path:
    """Reconstructs the source by one row of Table 2; returns the folder of the series.

    Series that the folder holds are kept if they were made of the same files by the same model, switches and version.
    """
    fusion, others = switches["fusion"], {name: value for name, value in switches.items() if name != "fusion"}
    request = ReconstructSettings(
        source,
        folder,
        (str(model),),
        fusion=fusion,
        switches=others,
        allow_out_of_protocol=True,
        overwrite=True,
        command=command,
    )
    if reconstruct(request) == 3:
        raise NotComparable(f"nothing was standardized, see {folder / 'report.html'}")
    return folder / "series"


def folder_name(row: str) -> str:
    """Letters and digits of a row's name.

    Example:
        >>> folder_name("w/ real/fake check")
        'w_real_fake_check'
    """
    return "_".join(re.findall(r"[A-Za-z0-9]+", row))
