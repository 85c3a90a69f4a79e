r"""Classical filters of whole slices beside each other, on slices that neither fitted nor chose them.

python benchmarks/filters.py B L --fit CT/pair_philips_5mm --halves 3
python benchmarks/filters.py BR40 BL64 --fit PATIENTS/train --choose PATIENTS/validation --report PATIENTS/test
python benchmarks/filters.py FC13 FC51 --fit CT/pair_toshiba_phantom/neck --report CT/pair_toshiba_phantom/chest \
    --pair_by position

Without --choose, every second pair of slices of --fit chooses; with --halves N, every second block of N slices reports, and of
the others every third chooses, as make-patches --split=halves has it. Prints errors of dissimilarity, contrast, homogeneity,
energy and correlation (Eq. 8) with their mean, HU RMSE, error of the power spectrum and largest bias of a tissue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stan_ct.ct.blend import fit_curves
from stan_ct.ct.field_of_view import outside_field_of_view
from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.dicom.find import find_series
from stan_ct.features.errors import texture_errors
from stan_ct.patches.cutting import continued, load_slice
from stan_ct.patches.front_end import TAPERS, choose_filter, spread_slices, validation_score
from stan_ct.patches.pairs import PairingRule, SeriesPair, pair_series
from stan_ct.patches.sampling import SamplingRule, grid_patches
from stan_ct.patches.splits import by_blocks
from stan_ct.training.quality import Quality

FIT, CHOOSE, REPORT = 128, 12, 48
"""Largest number of pairs of slices that fit, choose and report."""


class Report:
    """Measures filters on soft-tissue patches of slices.

    Args:
        pairs: The pairs of series.
    """

    def __init__(self, pairs: Sequence[SeriesPair]) -> None:
        slices = [(pair, z, t) for pair in pairs for z, t in pair.slices]
        self._slices, targets = [], []
        for pair, z, t in slices[:: -(-len(slices) // REPORT)]:
            source, target = load_slice(pair.source, z), load_slice(pair.target, t)
            soft_tissue = source.soft_tissue(0)
            windows = [patch.window for patch in grid_patches(soft_tissue.shape)]
            windows = [w for w in windows if soft_tissue[w].mean() >= SamplingRule().min_soft_tissue]
            self._slices.append((source, pair.source.pixel_spacing, windows))
            targets += [target.volume[0][window] for window in windows]
        self._errors, self._quality = texture_errors(np.stack(targets)), Quality(np.stack(targets))

    def row(self, name: str, curve: RadialFilter | None) -> str:
        """A row of the table; None for the source."""
        patches = []
        for source, spacing, windows in self._slices:
            hu = source.volume[0]
            if curve is not None:
                outside = outside_field_of_view(hu, source.padding[0])
                hu = np.where(outside, hu, np.rint(curve(continued(source), spacing)))
            patches += [hu[window] for window in windows]
        output = np.stack(patches).astype(np.float32)
        errors, quality = list(self._errors(output).values()), self._quality(output)
        cells = " ".join(f"{error:.4f}" for error in errors)
        hu = f"{quality['hu_rmse']:.2f} | {quality['spectrum_error']:.3f} | {quality['tissue_bias']:.1f}"
        return f"| {name} | {np.mean(errors):.4f} | {cells} | {hu} |"


def parts_of(args: argparse.Namespace) -> dict[str, list[SeriesPair]]:
    """Pairs that fit, choose and report."""

    def read(folder: str) -> list[SeriesPair]:
        return pair_series(find_series(folder).series, PairingRule((args.source,), args.target), args.pair_by)

    fit = read(args.fit)
    if args.halves:
        parts = by_blocks(fit, args.halves, halves=True)
        return {"fit": parts["train"], "choose": parts["validation"], "report": parts["test"]}
    if args.choose:
        return {"fit": fit, "choose": read(args.choose), "report": read(args.report)}
    both = {name: [replace(pair, slices=pair.slices[i::2]) for pair in fit] for i, name in enumerate(("fit", "choose"))}
    return {**both, "report": read(args.report)}


def main() -> None:
    """Fits, chooses and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="Convolution Kernel of the source")
    parser.add_argument("target", help="Convolution Kernel of the target")
    parser.add_argument("--fit", required=True, help="tree of DICOM series")
    parser.add_argument("--choose", help="tree of DICOM series")
    parser.add_argument("--report", help="tree of DICOM series")
    parser.add_argument("--halves", type=int, default=0, metavar="N")
    parser.add_argument("--pair_by", choices=("study", "position"), default="study")
    args = parser.parse_args()
    if not (args.halves or args.report):
        parser.error("needs --report or --halves")
    parts = parts_of(args)
    fit, _ = spread_slices(parts["fit"], FIT, args.source)
    score = validation_score(args.source, *spread_slices(parts["choose"], CHOOSE, args.source), fit_radial_filter(fit))
    rows: dict[str, RadialFilter | None] = {"source": None, "amplitude": fit_radial_filter(fit)}
    rows["amplitude, to Nyquist alone"] = fit_radial_filter(fit, corners=False)
    rows["Wiener"] = fit_radial_filter(fit, "wiener")
    for taper in TAPERS:
        curves = fit_curves(fit[:: -(-len(fit) // 24)], taper)
        for a in (1.0, 0.5, 0.0):
            rows[f"with clipping, taper {taper:g}, exponent {a:g}"] = curves.blend((a,))
    chosen = choose_filter(fit, score)
    rows[f"**blend**: {chosen.fit}, taper {chosen.taper:g}, exponents {chosen.exponents}"] = chosen.filter
    report = Report(parts["report"])
    for name, curve in rows.items():
        print(report.row(name, curve), "-" if curve is None else f"{score(curve):.3f} |", flush=True)


if __name__ == "__main__":
    main()
