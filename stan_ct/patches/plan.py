"""Plan of a folder of records: the settings, the number of patches from each slice, and a file for each pair of series."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stan_ct import __version__
from stan_ct.ct.filters import FrontEnd
from stan_ct.ct.protocol import Protocol, distinct_protocols, same_protocol
from stan_ct.dicom.series import SeriesFiles
from stan_ct.options import check, option
from stan_ct.patches.cutting import Shard, distribute
from stan_ct.patches.front_end import FrontEndKind
from stan_ct.patches.pairs import PairBy, Pairing, PairingError, PairingRule, SeriesPair
from stan_ct.patches.protocol import protocol_of
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.splits import Key, Split, key_of
from stan_ct.patches.where import parse_conditions


@dataclass(frozen=True)
class PatchSettings:
    """Settings of a folder of patch records.

    Attributes:
        input_dir: Trees of DICOM series.
        output_dir: Directory of the records and their index.
        source_kernels: Convolution Kernels of the non-standard protocols.
        target_kernel: Convolution Kernel of the standard protocol.
        pairing: `kernel` or `standard`, the protocols that pair; see `PairingRule`.
        target_thickness: Slice thickness of the standard protocol, mm, for the pairing `standard`.
        thicknesses: Slice thicknesses of sources to use, mm; empty for all.
        pair_by: `study`, or `position` for series that were de-identified apart; see `pair_series`.
        source_where: Conditions on the headers of sources, such as `Exposure<100`, where kernels alone do not tell protocols
            apart; several joined by commas.
        target_where: Conditions on the headers of targets.
        split: `patient` keeps whole patients apart, `folders` goes by the folders train, validation and test of each
            tree, `blocks` holds back every third block of slices; with `halves` every second block tests, and of the others
            every third validates.
        validation_fraction: Share of patients that validate, for `patient`.
        test_fraction: Share of patients that test, for `patient`; 0 for none.
        block: Slices in a block of the splits `blocks` and `halves`.
        patches_per_slice: Number of random patches cut from each slice, where no total is given.
        train_patches: Total number of training patches, distributed evenly over pairs and their slices; 0:
            `patches_per_slice`.
        validation_patches: Number of validation patches of each source protocol, distributed likewise.
        test_patches: Number of test patches of each source protocol, distributed likewise.
        resized: True: sides of 100..256 resized to 256 (the paper); False: 256 pixels at native scale.
        margin: Width of the border around training patches within which augmentation shifts them, pixels.
        front_end: `amplitude`, `wiener` or `blend`: fit this radial filter on the training slices of each source protocol and
            cut patches from filtered source slices too, so that models with and without it train and are tested on the same
            records; `none`. Source protocols are kernels, with the pairing `standard` kernels and slice thicknesses. A blend is
            chosen on validation slices, see :mod:`stan_ct.patches.front_end`.
        adjacent_slices: Number of source slices before and after each that records hold too, for generators that see them;
            filtered where there is a front end.
        seed: Seed of patches and patients.
    Raises:
        PairingError: If a number is not finite, or a front end cannot be fitted.
        UsageError: If a value is out of its range, or a condition is none.
    """

    input_dir: tuple[str, ...] = option(help="Tree of DICOM series; repeat the flag for more trees.", repeated=True)
    output_dir: str = option(help="Directory of the records and their index.")
    source_kernels: tuple[str, ...] = option(help="Convolution Kernels of the non-standard protocols.")
    target_kernel: str = option(help="Convolution Kernel of the standard protocol.")
    pairing: Pairing = option(
        "kernel",
        help="kernel: pairs differ in the kernel, at equal slice thickness; standard: any protocol pairs with the standard.",
    )
    target_thickness: float = option(
        0.0, help="Slice thickness of the standard protocol, mm, for --pairing=standard.", minimum=0
    )
    thicknesses: tuple[float, ...] = option((), help="Slice thicknesses of the sources, mm; by default all.")
    pair_by: PairBy = option(
        "study",
        help="study: series of one study and patient; position: also series at the same positions that were de-identified "
        "apart, so that study, patient and frame of reference differ. Only for series of one scan.",
    )
    source_where: tuple[str, ...] = option(
        (),
        help="Conditions on any header field of the sources, such as Exposure<100,SeriesDescription~low.dose, with = != < > <= "
        ">= or ~ (regular expression).",
        repeated=True,
    )
    target_where: tuple[str, ...] = option((), help="Conditions on any header field of the targets.", repeated=True)
    split: Split = option(
        "patient",
        help="patient: whole patients; folders: the folders train, validation and test of each tree; blocks: every third block "
        "of slices validates; halves: every second block tests, and every third of the others validates.",
    )
    validation_fraction: float = option(
        0.2, help="Share of the patients that validate, for --split=patient.", minimum=0, maximum=1
    )
    test_fraction: float = option(0.0, help="Share of the patients that test, for --split=patient.", minimum=0, maximum=1)
    block: int = option(4, help="Slices in a block, for --split=blocks and --split=halves.", minimum=1)
    patches_per_slice: int = option(40, help="Random patches cut from each slice, where no total is given.", minimum=1)
    train_patches: int = option(0, help="Training patches in total, distributed evenly; 0: --patches_per_slice.", minimum=0)
    validation_patches: int = option(0, help="Validation patches of each source protocol; 0: --patches_per_slice.", minimum=0)
    test_patches: int = option(0, help="Test patches of each source protocol; 0: --patches_per_slice.", minimum=0)
    resized: bool = option(
        False, help="Patches of 100 to 256 pixels resized to 256 (the paper), instead of 256 pixels at native scale."
    )
    margin: int = option(
        16, help="Width of the border around training patches within which augmentation shifts them, pixels.", minimum=0
    )
    front_end: FrontEndKind = option(
        "none",
        help="Radial filter fitted for each source protocol, and applied to its slices; blend: between amplitude and wiener, "
        "with the target's clipping, chosen on validation slices.",
    )
    adjacent_slices: int = option(0, help="Source slices before and after each, that records hold too.", minimum=0)
    seed: int = option(0, help="Seed of patches and patients.")

    def __post_init__(self) -> None:
        for name in ("target_thickness", "thicknesses", "validation_fraction", "test_fraction"):
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if not math.isfinite(number):
                    raise PairingError(f"--{name} expects a finite number, not {number}")
        check(self)
        parse_conditions(self.source_where, "source_where")
        parse_conditions(self.target_where, "target_where")

    @property
    def rule(self) -> PairingRule:
        """Rule for the protocols that pair."""
        return PairingRule(
            self.source_kernels,
            self.target_kernel,
            self.pairing,
            self.target_thickness,
            self.thicknesses,
            parse_conditions(self.source_where, "source_where"),
            parse_conditions(self.target_where, "target_where"),
        )

    def protocol(self, source: SeriesFiles) -> Protocol:
        """What a source is recognized by: its kernel; with the pairing `standard` its slice thickness too."""
        found = protocol_of(source)
        return found if self.pairing == "standard" else Protocol(found.kernel, 0.0)


def _groups(part: str, pairs: Sequence[SeriesPair], settings: PatchSettings) -> dict[str, list[int]]:
    """Numbers of the pairs that share one total: all that train; of one source protocol, where they validate or test."""
    groups: dict[str, list[int]] = defaultdict(list)
    known = distinct_protocols(map(settings.protocol, (pair.source for pair in pairs)))
    for i, pair in enumerate(pairs):
        groups["" if part == "train" else str(same_protocol(settings.protocol(pair.source), known))].append(i)
    return groups


def _total(part: str, settings: PatchSettings) -> int:
    return {"train": settings.train_patches, "validation": settings.validation_patches, "test": settings.test_patches}[part]


def num_requested(part: str, pairs: Sequence[SeriesPair], settings: PatchSettings) -> int:
    """Number of patches that the settings request for a part."""
    total = _total(part, settings)
    if total:
        return total * len(_groups(part, pairs, settings))
    return settings.patches_per_slice * sum(len(pair.slices) for pair in pairs)


def patches_per_pair(
    part: str, pairs: Sequence[SeriesPair], capacities: Sequence[Sequence[int]], settings: PatchSettings
) -> list[tuple[int, ...]]:
    """Distributes patches evenly over pairs, and evenly over the slices of each.

    Args:
        part: `train`, `validation` or `test`.
        pairs: Pairs of that part.
        capacities: For each pair, the capacity of each slice in patches.
        settings: The totals, or patches per slice.
    Returns:
        For each pair, the number of patches to cut from each of its slices.
    """
    total = _total(part, settings)
    if not total:
        return [tuple(min(capacity, settings.patches_per_slice) for capacity in slices) for slices in capacities]
    counts: list[tuple[int, ...]] = [()] * len(pairs)
    for members in _groups(part, pairs, settings).values():
        shares = distribute(total, [sum(capacities[i]) for i in members])
        for i, share in zip(members, shares, strict=True):
            counts[i] = tuple(distribute(share, capacities[i]))
    return counts


def margin_of(part: str, settings: PatchSettings) -> int:
    """Width of the border around the patches of a part, pixels: 0 but for training, which alone shifts patches."""
    return settings.margin if part == "train" else 0


def check_margin(pairs: Sequence[SeriesPair], margin: int) -> None:
    """Checks that slices hold a patch with its margin, so that all of it is the slice's own pixels.

    A slice that does not even hold a patch is continued by reflection, for patch and margin alike, and passes.

    Args:
        pairs: The pairs that train.
        margin: Width of the border around their patches, pixels.
    Raises:
        PairingError: Names the smallest slice and the largest margin that fits.
    """
    shapes = [pair.source.shape[1:] for pair in pairs if min(pair.source.shape[1:]) >= PATCH_SIZE]
    if not shapes:
        return
    height, width = min(shapes, key=min)
    fits, side = (min(height, width) - PATCH_SIZE) // 2, PATCH_SIZE + 2 * margin
    if margin > fits:
        raise PairingError(
            f"--margin={margin} needs training slices of at least {side} x {side} pixels, found {height} x {width}: the "
            f"largest that fits is --margin={fits}"
        )


def make_shards(
    part: str,
    pairs: Sequence[SeriesPair],
    counts: Sequence[tuple[int, ...]],
    front_end: FrontEnd | None,
    settings: PatchSettings,
) -> list[Shard]:
    """Plans one file for each pair; its name and seed follow from the series and the settings' seed.

    Args:
        part: `train`, `validation` or `test`.
        pairs: Pairs of that part.
        counts: For each pair, the number of patches to cut from each of its slices.
        front_end: Filters by source protocol, or None.
        settings: Seed, margin, sides and output directory.
    Raises:
        PairingError: If the front end has no filter for a pair, whose protocol no training pair has.
    """
    filters = {Protocol.from_text(text): curve for text, curve in front_end.filters.items()} if front_end else {}
    sources = [settings.protocol(pair.source) for pair in pairs]
    if filters and (unknown := {str(source) for source in sources if same_protocol(source, filters) is None}):
        raise PairingError(
            f"no training pair has kernel {', '.join(sorted(unknown))}, which {part} has, so no filter can be fitted: leave "
            "it out of --source_kernels, or --thicknesses, or choose --front_end=none"
        )
    shards = []
    for pair, count, source in zip(pairs, counts, sources, strict=True):
        text = repr((settings.seed, part, key_of(pair.source), key_of(pair.target)))
        digest = hashlib.sha256(text.encode()).hexdigest()
        protocol = re.sub(r"[^A-Za-z0-9.]+", "-", str(protocol_of(pair.source))).strip("-")
        path = Path(settings.output_dir) / f"{part}-{protocol}-{digest[:12]}.tfrecord"
        known = same_protocol(source, filters)
        margin, response = margin_of(part, settings), filters[known] if known else None
        shards.append(Shard(path, pair, count, int(digest[12:24], 16), margin, settings.resized, response))
    return shards


def plan_text(shards: Sequence[Shard], digests: Mapping[Key, Mapping[int, str]], settings: PatchSettings) -> str:
    """Everything that determines the bytes of the records, as JSON; not the directories of series and records.

    Args:
        shards: All files.
        digests: Series -> slice z -> digest of its pixels.
        settings: The settings that they are made with.
    """
    files = {}
    for shard in shards:
        source, target = digests[key_of(shard.pair.source)], digests[key_of(shard.pair.target)]
        slices = repr([(source[z], target[t]) for z, t in shard.pair.slices])
        filtered = shard.front_end.to_json() if shard.front_end else None
        files[shard.path.name] = {
            "counts": shard.counts,
            "slices": hashlib.sha256(slices.encode()).hexdigest(),
            "front_end": filtered,
        }
        if shard.adjacent:
            seen = repr([[digests[key_of(shard.pair.source)][z] for z in numbers] for numbers in shard.adjacent])
            files[shard.path.name]["adjacent"] = hashlib.sha256(seen.encode()).hexdigest()
    made_with = {k: v for k, v in asdict(settings).items() if k not in ("input_dir", "output_dir")}
    return json.dumps({"version": __version__, "settings": made_with, "files": files}, indent=1) + "\n"
