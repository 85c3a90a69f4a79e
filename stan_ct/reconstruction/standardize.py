"""The guarded way from a series to its standardized series: refusal, pipeline, fidelity and caution in one place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.ct.display_windows import kernel_window
from stan_ct.ct.protocol import Protocol
from stan_ct.dicom.acceptance import check_axial
from stan_ct.dicom.between import Place, places_at
from stan_ct.dicom.derived import Derivation
from stan_ct.dicom.header import STAMP
from stan_ct.dicom.identity import creation_time, derived_series_uid, free_series_number
from stan_ct.dicom.plausibility import implausible_hu
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles
from stan_ct.dicom.write import write_series, write_slices
from stan_ct.patches.training_slices import TrainingSlices
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.fidelity import Fidelity
from stan_ct.reconstruction.finding_texts import findings_in_short
from stan_ct.reconstruction.guard import Guard, GuardVerdict
from stan_ct.reconstruction.lattice import Lattice, lattice_findings, no_lattice
from stan_ct.reconstruction.output_checks import output_findings
from stan_ct.reconstruction.panels import shown_slices
from stan_ct.reconstruction.pipeline import SliceResult
from stan_ct.reconstruction.qualification import Synthesizer
from stan_ct.reconstruction.settings import PipelineSettings
from stan_ct.reconstruction.slices import standardize_slices
from stan_ct.reconstruction.source_checks import source_findings, source_slice_findings
from stan_ct.reconstruction.wording import counted

COMMENT = f"{STAMP}: research use only, not for diagnosis."
"""First words of the Image Comments of every derived slice."""


@dataclass(frozen=True)
class ModelIdentity:
    """A model as the manifest and the DICOM headers name it.

    Attributes:
        name: Name of the model.
        sha256: Hash of its files.
        source_kernel: Kernel, or kernels separated by commas, that it standardizes.
        target_kernel: Kernel of the standard protocol.
        sharpens: Whether the target kernel is the sharper one.
        target_thickness: Slice thickness of the standard protocol, mm; 0 where the source's stays.
    """

    name: str
    sha256: str
    source_kernel: str
    target_kernel: str
    sharpens: bool
    target_thickness: float = 0.0

    @property
    def target(self) -> str:
        """The standard protocol: its kernel, and its slice thickness where the model changes it, such as `BL64 1 mm`."""
        return str(Protocol(self.target_kernel, self.target_thickness))


@dataclass(frozen=True)
class Model:
    """A model that is ready to standardize series, with the switches of the pipeline; see :func:`stan_ct.load_model`.

    Attributes:
        identity: Name, hash and kernels.
        synthesizer: Network or baseline that turns source patches into standard ones.
        settings: Switches of the pipeline.
        precision: Number type of the networks' hidden layers.
        guard: Protocols that the model was made for.
        label: Name or folder by which it was loaded.
        seen: Slices that it was trained on.
        slices_between: Whether slices between those of the source are written too, as far apart as the model makes them thick.
        slices_at_once: Number of slices under way at a time, in as many threads; the result does not depend on it.
        engine: What computes the networks; empty for a baseline.
    """

    identity: ModelIdentity
    synthesizer: Synthesizer
    settings: PipelineSettings
    precision: str
    guard: Guard
    label: str = ""
    seen: TrainingSlices = field(default_factory=TrainingSlices)
    slices_between: bool = False
    slices_at_once: int = 1
    engine: str = ""

    @property
    def key(self) -> str:
        """Everything that, with the source, determines the output; with the source's UIDs it determines the new UIDs."""
        parts = {"stan_ct": __version__, "model": self.identity.sha256, "precision": self.precision, **asdict(self.settings)}
        if self.engine not in ("", "tensorflow"):
            parts["engine"] = self.engine
        if self.slices_between:
            parts["slices_between"] = True
        return json.dumps(parts, sort_keys=True)

    def check(self, files: SeriesFiles, verdict: GuardVerdict, allow_out_of_protocol: bool = False) -> tuple[str, ...]:
        """Refuses a series that the model was not made for; headers and verdict suffice.

        Args:
            files: Source.
            verdict: Verdict of the guard on it.
            allow_out_of_protocol: Whether to go on with it.
        Returns:
            Reasons why the model was not made for it, in words; empty within its protocol.
        Raises:
            Refused: `standard_protocol`, `out_of_protocol` or `not_axial`.
        """
        if verdict.standard and not allow_out_of_protocol:
            raise Refused("standard_protocol", f"kernel {files.kernel} is the standard one")
        cautions = ("it had the standard protocol already",) if verdict.standard else verdict.reasons
        if cautions and not allow_out_of_protocol:
            raise Refused("out_of_protocol", "; ".join(cautions))
        if self.guard.sources and not allow_out_of_protocol:
            check_axial(files.first)
        return cautions

    def standardize(
        self,
        series: Series,
        *,
        allow_out_of_protocol: bool = False,
        progress: Callable[[Iterable], Iterable] = iter,
        verdict: GuardVerdict | None = None,
    ) -> Standardized:
        """Standardizes a series, as `reconstruct.py` does.

        Args:
            series: Source, from :func:`stan_ct.load_series`; only read.
            allow_out_of_protocol: Whether to go on with a series that the model was not made for, or that has the standard
                protocol already. The result and the DICOM that it writes say so.
            progress: Wrapper of the iteration over slices, such as `tqdm`.
            verdict: Verdict of the guard on this series, where it is known already.
        Returns:
            The standardized series with the findings of every check.
        Raises:
            Refused: `out_of_protocol`, `standard_protocol` for a series that needs no standardization, `not_axial`, or `not_hu`
                if its values cannot be those of a body.
        """
        verdict = verdict or self.guard(series)
        cautions = self.check(series.files, verdict, allow_out_of_protocol)
        guarded = self.guard.sources and not allow_out_of_protocol  # without fingerprints, every series is accepted
        if guarded and (detail := implausible_hu(series.volume, series.padding)):
            raise Refused("not_hu", detail)
        volume, results, fidelity, checks = standardize_slices(
            series,
            self.synthesizer,
            self.settings,
            kernel=verdict.kernel,
            keep=shown_slices(len(series.volume)),
            at_once=self.slices_at_once,
            progress=progress,
        )
        after = output_findings(series, volume, self.guard.standard, self.slices_at_once)
        lattice = lattice_findings(sum((result.lattice for result in results), no_lattice()))
        relative = (Finding("foreign_kernel", detail=verdict.relative),) if verdict.relative else ()
        of_series = (*relative, *source_findings(series), *fidelity.findings, *lattice, *after)
        fidelity = replace(fidelity, findings=of_series)
        found = zip(results, source_slice_findings(series, checks), fidelity.slices, strict=True)
        slices = tuple(
            replace(result, findings=(*of_source, *result.findings, *changes)) for result, of_source, changes in found
        )
        return Standardized(series, volume, slices, fidelity, verdict, cautions, self)


@dataclass(frozen=True)
class Standardized:
    """A standardized series, not written yet.

    Attributes:
        source: Series that it was made of.
        volume: (Z, H, W) float32, HU, in memory or on disk as the source's is.
        slices: Quality control of each slice, in the order of `volume`, structures that came or went included.
        fidelity: Comparison with the source.
        verdict: The guard's verdict on the source.
        cautions: Reasons why the model was not made for the source, in words; empty within its protocol.
        model: Model that made it.
    """

    source: Series
    volume: np.ndarray
    slices: tuple[SliceResult, ...]
    fidelity: Fidelity
    verdict: GuardVerdict
    cautions: tuple[str, ...]
    model: Model

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every failed check: protocol first, then the whole series, then slice by slice; empty if all is well."""
        protocol = (Finding("out_of_protocol", detail=caution) for caution in self.cautions)
        of_slices = (replace(f, slice=z) for z, result in enumerate(self.slices) for f in result.findings)
        return (*protocol, *self.fidelity.findings, *of_slices)

    @property
    def lattice(self) -> Lattice:
        """Regular patterns in what the networks changed, over all slices."""
        return sum((result.lattice for result in self.slices), no_lattice())

    @property
    def series_uid(self) -> str:
        """Series Instance UID (0020,000E) of the derived series."""
        return derived_series_uid(self.source.files, self.model.key)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where its slices lie, if some are interpolated between those of the source; empty otherwise."""
        if not self.model.slices_between:
            return ()
        return places_at([instance.location for instance in self.source.instances], self.model.identity.target_thickness)

    def write(self, folder: Path | str, series_number: int | None = None, created: datetime | None = None) -> tuple[str, ...]:
        """Writes the derived DICOM series, byte for byte as `reconstruct.py` does; it appears complete or not at all.

        Args:
            folder: Folder of the series; an existing one is replaced by the complete new one.
            series_number: Series Number (0020,0011); by default 1000 above the source's.
            created: Creation time with a time zone; by default now, or SOURCE_DATE_EPOCH.
        Returns:
            SOP Instance UIDs (0008,0018) in the order of the slices.
        Raises:
            Refused: `unreadable`, if a source file changed or went away after it was read.
            OSError: If the folder cannot be written.
        """
        return write_series(self.source, self.volume, Path(folder), *self._derivation(series_number, created), self.places)

    def write_files(self, folder: Path, series_number: int | None = None, created: datetime | None = None) -> tuple[str, ...]:
        """Like :meth:`write`, one file after the other into a folder that is made for them."""
        written = (*self._derivation(series_number, created), self.places, self.model.slices_at_once)
        return write_slices(self.source, self.volume, folder, *written)

    def _derivation(self, series_number: int | None, created: datetime | None) -> tuple[Derivation, int]:
        number = free_series_number(self.source.files.number, set()) if series_number is None else series_number
        identity = self.model.identity
        derivation = Derivation(
            target=f"kernel {identity.target}",
            model=f"{identity.name} {identity.sha256[:8]}",
            key=self.model.key,
            thickness=identity.target_thickness,
            sharpening=identity.sharpens,
            created=created or creation_time(),
            caution=f"out of protocol: {'; '.join(self.cautions)}" if self.cautions else "",
            warning=self._warning(),
            comments=self._comments(),
            slice_comments=tuple(
                f"This slice: {findings_in_short(result.findings)}." if result.findings else "" for result in self.slices
            ),
            window=kernel_window(identity.target_kernel) if identity.sharpens else None,
        )
        return derivation, number

    def _warning(self) -> str:
        """What the Series Description begins with."""
        found = any(finding.name != "out_of_protocol" for finding in self.findings) or self.source.refusals
        return ", ".join((["OUT OF PROTOCOL"] if self.cautions else []) + (["FINDINGS"] if found else []))

    def _comments(self) -> str:
        """Image Comments of every slice: what the series is not for, and what was found in it as a whole."""
        parts = [COMMENT]
        if of_series := [finding for finding in self.findings if finding.slice is None]:
            parts.append(f"Findings of the series: {findings_in_short(of_series)}.")
        if number := sum(bool(result.findings) for result in self.slices):
            parts.append(f"{number} of {counted(len(self.slices), 'slice')} with findings.")
        if any(place.part for place in self.places):
            parts.append("Slices between those of the source are interpolated.")
        if refused := self.source.refusals:
            parts.append(f"{counted(len(refused), 'slice')} of the source refused and missing here.")
        return " ".join(parts)
