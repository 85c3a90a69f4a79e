"""Which of several models a series is standardized with: the one that was made for its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from stan_ct.ct.fingerprint import SeriesCharacteristics
from stan_ct.dicom.characteristics import read_characteristics, series_characteristics
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import Series, SeriesFiles
from stan_ct.reconstruction.guard import GuardVerdict
from stan_ct.reconstruction.standardize import Model, Standardized


@dataclass(frozen=True)
class ModelSet:
    """Models to choose from.

    Attributes:
        models: At least one model, the preferred first.
        others: Models that are not to be used; a refusal names the one that would do.
    """

    models: Sequence[Model]
    others: Sequence[Model] = ()

    @property
    def key(self) -> str:
        """Everything that, with the source, determines the output: the keys of all models."""
        return "\n".join(sorted(model.key for model in self.models))

    @property
    def slices_at_once(self) -> int:
        """Number of slices under way at a time."""
        return max(model.slices_at_once for model in self.models)

    def choose(self, kernel: str, seen: SeriesCharacteristics) -> tuple[Model, GuardVerdict]:
        """Chooses the model for a series.

        The first model whose protocols hold the series; else the first for which it has the standard protocol; else the first
        that knows its kernel; else the first. In the last two cases the verdict has reasons against it.

        Args:
            kernel: Convolution Kernel (0018,1210).
            seen: Slice thickness, pixel spacing and noise spectrum.
        """
        judged = [(model, model.guard.judge(kernel, seen)) for model in self.models]
        accepted = [pair for pair in judged if not pair[1].standard and not pair[1].reasons]
        accepted.sort(key=lambda pair: bool(pair[1].relative))  # a model that knows the name comes first
        standard = [pair for pair in judged if pair[1].standard]
        named = [pair for pair in judged if pair[0].guard.named(kernel)]
        model, verdict = (accepted or standard or named or judged)[0]
        return model, replace(verdict, reasons=self._explain(model, verdict, kernel, seen))

    def look_ahead(self, files: SeriesFiles, allow_out_of_protocol: bool = False) -> SeriesCharacteristics | None:
        """Refuses a series by its headers and the few slices on which noise is measured, before the others are read.

        Args:
            files: Source.
            allow_out_of_protocol: Whether to go on with a series that no model was made for.
        Returns:
            Its characteristics; None if one of those slices cannot be read, so that others must tell.
        Raises:
            Refused: As :meth:`Model.check`.
        """
        try:
            seen = read_characteristics(files, complete=True, threads=self.slices_at_once)
        except Refused:
            return None
        model, verdict = self.choose(files.kernel, seen)
        model.check(files, verdict, allow_out_of_protocol)
        return seen

    def standardize(
        self,
        series: Series,
        *,
        allow_out_of_protocol: bool = False,
        progress: Callable[[Iterable], Iterable] = iter,
        seen: SeriesCharacteristics | None = None,
    ) -> Standardized:
        """Standardizes a series with the model made for it, see :meth:`Model.standardize`.

        Args:
            series: Source.
            allow_out_of_protocol: Whether to go on with a series that no model was made for.
            progress: Wrapper of the iteration over slices.
            seen: Its characteristics, where they are known already.
        """
        model, verdict = self.choose(series.files.kernel, seen or series_characteristics(series))
        return model.standardize(series, allow_out_of_protocol=allow_out_of_protocol, progress=progress, verdict=verdict)

    def _explain(self, model: Model, verdict: GuardVerdict, kernel: str, seen: SeriesCharacteristics) -> tuple[str, ...]:
        """Reasons of a refusal: those of the best model, of all where none knows the kernel, and the model that would do."""
        if not verdict.reasons:
            return ()
        reasons = verdict.reasons
        if len(self.models) > 1 and not model.guard.named(kernel):
            known = "; ".join(f"{m.label} {_kernels(m)}" for m in self.models)
            reasons = (f"kernel {kernel} is none that the models standardize: {known}", *reasons[1:])
        fitting = (m for m in self.others if m.guard.named(kernel) and not m.guard.judge(kernel, seen).reasons)
        return (*reasons, *(f"--model={m.label} standardizes kernel {kernel}" for m in fitting))


def _kernels(model: Model) -> str:
    return " and ".join(dict.fromkeys(source.kernel for source in model.guard.sources)) + f" to {model.identity.target}"
