"""What `stan-ct adapt` is told."""

from __future__ import annotations

from dataclasses import dataclass

from stan_ct.errors import StanCTError
from stan_ct.options import option


class AdaptationError(StanCTError, ValueError):
    """No model can be made of these scans; the message says why and what would do."""


@dataclass(frozen=True)
class AdaptSettings:
    """Scans of both sites, and the model that is made of them.

    Attributes:
        source_dir: Trees of DICOM with scans to be standardized.
        target_dir: Trees of DICOM with scans of the standard protocol, of other patients.
        output_dir: Model folder.
        source_kernels: Kernels to take from the sources; empty for all.
        target_kernel: Kernel to take from the targets; empty if they have one alone.
        minutes: Time for training; 0 fits the filters alone.
        slices: Largest number of slices of a patient that are measured.
        name: Name of the model; empty for one made of the kernels.
    """

    source_dir: tuple[str, ...] = option(
        (), help="Tree of DICOM with scans to be standardized, of any number of patients and kernels.", repeated=True
    )
    target_dir: tuple[str, ...] = option(
        (), help="Tree of DICOM with scans of your standard, of any patients; none needs to be in --source_dir.", repeated=True
    )
    output_dir: str = option("", help="Folder of the model, for stan-ct reconstruct --model.")
    source_kernels: tuple[str, ...] = option((), help="Kernels to take from --source_dir; all of them by default.")
    target_kernel: str = option("", help="Kernel to take from --target_dir, needed if it holds several.")
    minutes: float = option(0.0, help="Time for training a generator on top of the filters; 0: filters alone.", minimum=0)
    slices: int = option(8, help="Slices of each patient that are measured, at most.", minimum=2)
    name: str = option("", help="Name of the model; made of the kernels by default.")

    @property
    def sides(self) -> dict[str, tuple[str, ...]]:
        """Flag -> its trees."""
        return {"source_dir": self.source_dir, "target_dir": self.target_dir}
