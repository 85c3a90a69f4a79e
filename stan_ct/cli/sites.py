"""Sites side by side: how far scans of several sites differ, before and after standardization and ComBat.

stan-ct sites --site=A=DIR --site=B=DIR --output_dir=OUT     lung and soft tissue
stan-ct sites --site=A=DIR --site=B=DIR --masks --output_dir=OUT     regions (RTSTRUCT, SEG, NIfTI) beside the series
stan-ct sites --site=A=DIR --site=B=DIR --standardized=DIR --covariates=CSV --output_dir=OUT     before and after; biology

OUT receives report.html - noise spectra, HU of tissues, distance of each feature (Cohen's d, Kolmogorov-Smirnov), how well
cross-validated classifiers tell the sites, ranks within sites, effects of covariates, and a verdict on each in one sentence -
with the same as report.md and report.json, a CSV for each table, features.csv and noise_spectra.csv with lines for each
patient, figures as PNG and SVG, and sites.flags (repeat with --flagfile=OUT/sites.flags).

Exit codes: 0 done, 1 bad usage or nothing to compare, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from stan_ct.cli.command import Command, fail
from stan_ct.cli.settings_flags import define_flags
from stan_ct.errors import StanCTError, UsageError
from stan_ct.parallel import usable_cores

if TYPE_CHECKING:
    from stan_ct.evaluation.sites.settings import SiteSettings
    from stan_ct.patches.where import Condition

BESIDE = "true"
"""Value of --masks without a value: masks lie beside the series."""


class _Masks(flags.ArgumentParser):
    """`--masks` alone, or `--masks=PATH,PATH`."""

    def parse(self, argument: object) -> str:
        if isinstance(argument, bool):
            return BESIDE if argument else ""
        return "" if argument == "false" else str(argument)

    def flag_type(self) -> str:
        return "bool or list"


class _MasksFlag(flags.Flag):
    """A flag that needs no value and may have one; written down as it was given."""

    def __init__(self, help: str) -> None:
        super().__init__(_Masks(), flags.ArgumentSerializer(), "masks", "", help)
        self.boolean = True  # so that it needs no value

    def serialize(self) -> str:
        return "" if not self.value else "--masks" if self.value == BESIDE else f"--masks={self.value}"


def command() -> Command:
    """The command and its flags."""
    from stan_ct.evaluation.sites.settings import SiteSettings

    made = Command("sites", __doc__ or "")
    with made.group("What and where") as of:
        flags.DEFINE_multi_string("site", [], "NAME=DIR: DICOM of a site; give two or more.", flag_values=of)
        flags.DEFINE_string("output_dir", None, "Folder for the page.", required=True, flag_values=of)
        flags.DEFINE_string(
            "standardized", None, "DICOM of the standardized series, of stan-ct reconstruct, of all sites.", flag_values=of
        )
        masks = "Regions, DICOM SEG, RTSTRUCT or NIfTI: alone, those beside the series; or --masks=PATH,PATH, as of evaluate."
        flags.DEFINE_flag(_MasksFlag(masks), of)
        flags.DEFINE_string(
            "covariates", None, "CSV with a line for each patient: patient_id, and age, outcome ...", flag_values=of
        )
        flags.DEFINE_multi_string(
            "where",
            [],
            "NAME:CONDITIONS on the series of a site, such as A:ConvolutionKernel=B30f,SliceThickness<3.",
            flag_values=of,
        )
    with made.group("How") as of:
        define_flags(SiteSettings, of)
        flags.DEFINE_integer("workers", 0, "Number of processes that measure; 0: one per core.", 0, flag_values=of)
    return made


def run(command: Command) -> int:
    """Compares, writes the page, and prints the verdicts."""
    from stan_ct.dicom.apart import check_apart
    from stan_ct.evaluation.sites.run import compare_sites
    from stan_ct.report.files import write_report

    output_dir = Path(command["output_dir"])
    try:
        settings = _settings(command)
        check_apart(output_dir, [*settings.sites.values(), *filter(None, [settings.standardized])])
        found = compare_sites(settings, command["workers"] or usable_cores(), partial(tqdm, disable=None))
        flags_used = command.effective_flags()
        write_report(found.report(command.command_line(), flags_used), output_dir, {"sites.flags": flags_used})
    except (StanCTError, ValueError, OSError) as error:
        return fail("sites", error)
    for verdict in found.verdicts:
        print(f"{verdict.question} {verdict.status.words}. {verdict.sentence}")
    print(f"\nAll of it: {output_dir / 'report.html'}")
    return 0


def _settings(command: Command) -> SiteSettings:
    from stan_ct.evaluation.settings import named_directories
    from stan_ct.evaluation.sites.settings import SiteSettings
    from stan_ct.options import options

    masks = command["masks"]
    return SiteSettings(
        sites=named_directories(command["site"]),
        standardized=Path(command["standardized"]) if command["standardized"] else None,
        masks=tuple(Path(path) for path in masks.split(",")) if masks not in ("", BESIDE) else (),
        masks_beside=masks == BESIDE,
        covariates=Path(command["covariates"]) if command["covariates"] else None,
        where=_where(command["where"]),
        **{each.flag: command[each.flag] for each in options(SiteSettings)},
    )


def _where(texts: list[str]) -> dict[str, tuple[Condition, ...]]:
    from stan_ct.patches.where import parse_conditions

    found: dict[str, tuple[Condition, ...]] = {}
    for text in texts:
        site, colon, conditions = text.partition(":")
        if not (colon and conditions):
            raise UsageError(f"--where expects NAME:CONDITIONS, such as A:ConvolutionKernel=B30f, not {text!r}")
        found[site] = (*found.get(site, ()), *parse_conditions([conditions], "where"))
    return found
