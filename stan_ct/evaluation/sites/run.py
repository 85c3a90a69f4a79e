"""Sites side by side, from folders of DICOM or from features: `stan-ct sites` and :func:`stan_ct.compare_sites`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from stan_ct.evaluation.methods import provenance
from stan_ct.evaluation.sites import tables
from stan_ct.evaluation.sites.cohort import Cohort, measure_cohort
from stan_ct.evaluation.sites.comparison import FeatureComparison, compare_features
from stan_ct.evaluation.sites.features import SiteFeatures
from stan_ct.evaluation.sites.images import ImageComparison, compare_images
from stan_ct.evaluation.sites.page import sections
from stan_ct.evaluation.sites.scans import find_scans
from stan_ct.evaluation.sites.settings import SiteSettings
from stan_ct.evaluation.sites.verdicts import Verdict, verdicts
from stan_ct.report.files import write_report
from stan_ct.report.sections import Provenance, Report

FEATURES, NOISE, EFFECTS = "features.csv", "noise_spectra.csv", "effects.csv"
"""Files beside the page, for other software."""


@dataclass(frozen=True)
class SiteComparison:
    """Sites side by side.

    Attributes:
        features: Distances, classifiers, ranks and effects of covariates.
        images: Noise and HU of tissues; None if features alone were given.
        cohort: The scans; None as well.
        settings: How they were measured; None as well.
    """

    features: FeatureComparison
    images: ImageComparison | None = None
    cohort: Cohort | None = None
    settings: SiteSettings | None = None

    @property
    def verdicts(self) -> list[Verdict]:
        """A question, a traffic light and a sentence each."""
        return verdicts(self.features, self.images)

    def report(self, command: str = "", flags: str = "", created: str = "") -> Report:
        """The page.

        Args:
            command: Command line, for the provenance.
            flags: Effective flags, one a line.
            created: Date and time; by default now.
        """
        found, identifiers = self.features, bool(self.settings and self.settings.show_identifiers)
        beside = {FEATURES: tables.features_csv(found, self.cohort, identifiers)}
        if found.effects:
            beside[EFFECTS] = tables.effects_csv(found)
        if self.cohort and self.images:
            beside[NOISE] = tables.noise_csv(self.cohort, self.images.states, identifiers)
        seeds = {"folds, permutations": self.settings.seed} if self.settings else {}
        about = Provenance(
            command=command or "stan_ct.compare_sites",
            data={site: f"{found.features.count(site)} patients" for site in found.features.site_names},
            settings=provenance.settings_of(flags),
            seeds=seeds,
            models={},
            versions=provenance.versions("scikit-learn"),
            created=created or datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        parts = tuple(sections(found, self.cohort, self.images, self.settings))
        return Report("Sites side by side: " + ", ".join(found.features.site_names), parts, about, beside=beside)

    def write(self, output_dir: Path | str) -> Path:
        """Writes `report.html`, `report.md`, `report.json`, figures, a CSV for each table, and those for other software.

        Args:
            output_dir: Folder, made if need be.
        Returns:
            The page.
        """
        write_report(self.report(), Path(output_dir))
        return Path(output_dir) / "report.html"


def compare_sites(settings: SiteSettings, workers: int = 1, progress: Callable = lambda items: items) -> SiteComparison:
    """Compares the scans of several sites, before and after standardization.

    Args:
        settings: Sites, masks, covariates, and how to measure.
        workers: Number of processes that measure.
        progress: Wrapper of the iteration over files, such as `tqdm`.
    Raises:
        FileNotFoundError: If a folder or file does not exist.
        UsageError: If it is not clear what to compare.
        NotComparable: If there is nothing to compare.
    """
    cohort = measure_cohort(find_scans(settings, progress), settings, workers)
    features = compare_features(cohort.features, settings.repeats, settings.permutations, settings.seed, workers)
    images = compare_images(cohort.measured, settings.standardized is not None, 5 * settings.permutations, settings.seed)
    return SiteComparison(features, images, cohort, settings)


def compare_site_features(
    before: np.ndarray,
    sites: np.ndarray,
    patients: np.ndarray,
    after: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    covariates: Mapping[str, np.ndarray] | None = None,
    repeats: int = SiteSettings.repeats,
    permutations: int = SiteSettings.permutations,
    seed: int = 0,
) -> SiteComparison:
    """Compares sites by features that other software measured.

    Args:
        before: Features of the scans, (n, k), a row for each patient at each site.
        sites: Site of each row, (n,).
        patients: Patient of each row, (n,).
        after: Features of the standardized scans, (n, k); None without.
        names: Names of the features, (k,); by default numbers.
        covariates: Name -> number of each row, (n,), NaN where it is not known.
        repeats: Number of times that the patients are dealt to folds.
        permutations: Number of permutations of each classifier's test.
        seed: Seed.
    Raises:
        NotComparable: If shapes do not fit, there are not two sites, a patient has two rows at a site, or no feature varies.
    """
    before = np.asarray(before, np.float64)
    names = names or tuple(f"feature {f + 1}" for f in range(before.shape[-1]))
    after = None if after is None else np.asarray(after, np.float64)
    known = {name: np.asarray(values, np.float64) for name, values in (covariates or {}).items()}
    table = SiteFeatures(tuple(names), np.asarray(sites).astype(str), np.asarray(patients).astype(str), before, after, known)
    return SiteComparison(compare_features(table, repeats, permutations, seed))
