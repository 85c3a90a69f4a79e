"""What each finding means and what to do about it, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stan_ct.ct.tissues import TISSUES
from stan_ct.reconstruction.checks import Finding
from stan_ct.reconstruction.wording import in_ascii, with_minus

SPREAD = "standard deviations"


@dataclass(frozen=True)
class FindingText:
    """Explanation of a finding.

    Attributes:
        title: Short title.
        unit: Unit of value and limit; "%" for fractions.
        meaning: What was found, in one sentence.
        advice: What to do, in one sentence.
        lower: Whether the limit is the least allowed value rather than the greatest.
        signed: Whether values have a sign, and the limit holds for both.
    """

    title: str
    unit: str
    meaning: str
    advice: str
    lower: bool = False
    signed: bool = False

    def printed(self, value: float | None) -> str:
        """A value with its unit; a dash for checks that measure none."""
        if value is None:
            return "\N{EN DASH}"
        if self.unit == "%":
            return f"{100 * value:.3g} %"
        return with_minus(f"{value:{'+' if self.signed else ''}.4g} {self.unit}".strip())

    def printed_limit(self, limit: float | None) -> str:
        """The limit with its unit and its direction; a dash for checks that have none."""
        if limit is None:
            return "\N{EN DASH}"
        if self.signed:
            return f"\N{PLUS-MINUS SIGN}{limit:.4g} {self.unit}"
        return f"{'at least' if self.lower else 'at most'} {self.printed(limit)}"


_LATTICE_ADVICE = "Do not measure texture in this series; models trained with --upsampling=resize write no pattern."
_LOOK = "Look at these slices beside the source; where the tissue matters, use the source."

FINDINGS = {
    "out_of_protocol": FindingText(
        "Out of protocol",
        "",
        "The model was not made for this series, so passed checks prove little.",
        "Compare the output with the source.",
    ),
    "foreign_kernel": FindingText(
        "Kernel of another name",
        "",
        "The model was not made for a kernel of this name, but for one of the same noise, thickness and pixels.",
        "Compare output and source in a few slices; scans of both kernels, for stan-ct adapt, would make a model of its own.",
    ),
    "unlike_standard": FindingText(
        "Texture unlike the standard",
        "",
        "The spectrum of the output differs from that of the standard protocol by more than spectra of its series do.",
        "Do not pool this series with others; check that the model was made for the kernel of the source.",
    ),
    "overlap": FindingText(
        "Patches overlap too little",
        "%",
        "A patch shares too little of its area with its neighbours, so that seams between patches are not averaged out.",
        "Look for straight lines in these slices; use --patch_layout=grid.",
        lower=True,
    ),
    "uncovered_soft_tissue": FindingText(
        "Soft tissue not covered by patches",
        "%",
        "No patch covers this fraction of the soft tissue, which is unchanged from the source.",
        "Treat these parts as source, not as standardized; use --patch_layout=grid.",
    ),
    "unqualified_patches": FindingText(
        "Tissue without a qualified patch",
        "%",
        "For this fraction of the tissue every synthesized patch was rejected: it is no plausible output for its source.",
        _LOOK,
    ),
    "implausible_hu": FindingText(
        "HU that no change of kernel makes",
        "HU",
        "Pixels lay farther from their surroundings in the source than any kernel moves them; they were cut off at the bound.",
        _LOOK,
    ),
    "lattice": FindingText(
        "Regular pattern of pixels",
        "times the power beside",
        "The network wrote a pattern that repeats every few pixels: its power stands out from that of other frequencies.",
        _LATTICE_ADVICE,
    ),
    "lattice_mean": FindingText(
        "Regular pattern of pixels",
        "HU",
        "The network brightened or darkened every fourth pixel by more than chance explains.",
        _LATTICE_ADVICE,
    ),
    "missing_values": FindingText(
        "Pixels without a value",
        "px",
        "Synthesis gave no finite number for these pixels; they keep the value of the source.",
        "Treat these pixels as source; please report the series if it happens again.",
    ),
    "box_artefact": FindingText(
        "Border of a patch is visible",
        SPREAD,
        "The change from source to output steps along the straight border of a patch more than chance explains.",
        "Look for straight lines in these slices; do not measure texture across them.",
    ),
    **{
        f"mean_{tissue.replace(' ', '_')}": FindingText(
            f"Mean HU of {tissue} changed",
            "HU",
            f"{tissue.capitalize()} is brighter or darker on average than in the source.",
            "Compare with the source before measuring HU, or volumes by a threshold of HU.",
            signed=True,
        )
        for tissue in TISSUES
    },
    "low_pass_difference": FindingText(
        "Coarse structures changed",
        "HU",
        "At the scale of a nodule the output differs from the source by more than a change of kernel explains.",
        "Compare output and source; check that the source is of a kernel that the model was made for.",
    ),
    "implausible_source": FindingText(
        "HU of the source are implausible",
        "",
        "The source's values cannot be Hounsfield units of a body.",
        "Do not use this series; export the source from the scanner again.",
    ),
    "implausible_spacing": FindingText(
        "Pixel spacing of the source is implausible",
        "",
        "No scanner of people has pixels of this size or shape, and filters depend on it.",
        "Do not use this series; export the source from the scanner again.",
    ),
    "missing_slices": FindingText(
        "Slices missing",
        "",
        "Neighbouring slices of the source are farther apart than the others.",
        "Copy the source again, and compare the number of slices with the archive's.",
    ),
    "uneven_spacing": FindingText(
        "Slices are unevenly spaced",
        "",
        "Neighbouring slices of the source are at different distances.",
        "Do not measure volumes or sizes across slices as if they were evenly spaced.",
    ),
    "unreadable_slices": FindingText(
        "Damaged files in the series",
        "",
        "Files of this series, or beside its slices, are damaged; what they held is not in the output.",
        "Copy or export the source again.",
    ),
    "odd_slice": FindingText(
        "A slice that does not fit",
        "",
        "The slice of the source differs from both its neighbours much more than these differ from each other.",
        "Compare the slice with its neighbours; copy or export the source again.",
    ),
    "damaged_pixels": FindingText(
        "Damaged pixels in the source",
        "",
        "The slice of the source holds values that no scanner leaves in it; the output is wrong there and around it.",
        "Do not use these slices; copy or export the source again.",
    ),
    "from_nifti": FindingText(
        "Made of a NIfTI file",
        "",
        "NIfTI says neither kernel nor slice thickness, tube voltage, phase or compression: these could not be checked.",
        "Make sure that the kernel that was stated is the right one; standardize the DICOM series where you have it.",
    ),
    "lossy_compression": FindingText(
        "Lossy compression",
        "",
        "The source went through lossy compression, which changes texture and noise before anything else does.",
        "Do not measure texture or noise in this series; export it without loss where the archive still has it.",
    ),
    "not_axial": FindingText(
        "Slices are no axial originals",
        "",
        "The source is a reformat, such as a coronal one, whose noise and sharpness are not those of the kernel.",
        "Choose the original axial series.",
    ),
    "new_structure": FindingText(
        "A structure may have been added",
        SPREAD,
        "A bright spot at the scale of a nodule is in the output that a change of kernel does not explain.",
        _LOOK,
    ),
    "lost_structure": FindingText(
        "A structure may have been removed",
        SPREAD,
        "A spot at the scale of a nodule is darker in the output than a change of kernel explains.",
        _LOOK,
    ),
}
"""Name of a finding -> explanation."""


def finding_text(name: str) -> FindingText:
    """The explanation of a finding; for a name without one, the name in words."""
    meaning = f"The check {name} found a value beyond its limit."
    return FINDINGS.get(name) or FindingText(name.replace("_", " ").capitalize(), "", meaning, _LOOK)


def findings_in_short(findings: Iterable[Finding]) -> str:
    """Findings in one line of ASCII: title, worst value and limit of each name, and how often it came.

    Example:
        >>> findings = [Finding("mean_lung", -7.25, 5.0), Finding("mean_lung", 6.0, 5.0), Finding("strange", detail="no bed")]
        >>> findings_in_short(findings)
        'Mean HU of lung changed: -7.25 HU (+-5 HU), twice; Strange: no bed'
    """
    named: dict[str, list[Finding]] = {}
    for finding in findings:
        named.setdefault(finding.name, []).append(finding)
    return "; ".join(_in_short(name, found) for name, found in named.items())


def worst_value(name: str, values: Iterable[float | None]) -> float | None:
    """The value of a finding that is farthest beyond its limit; None if none was measured."""
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return min(measured) if finding_text(name).lower else max(measured, key=abs)


def _in_short(name: str, found: Sequence[Finding]) -> str:
    text, worst = finding_text(name), worst_value(name, (finding.value for finding in found))
    words = text.title
    if worst is not None:
        limit = f" ({text.printed_limit(found[0].limit)})" if found[0].limit is not None else ""
        words += f": {text.printed(worst)}{limit}"
    elif found[0].detail:
        words += f": {found[0].detail}"
    times = {1: "", 2: ", twice"}.get(len(found), f", {len(found)} times")
    return in_ascii(words) + times
