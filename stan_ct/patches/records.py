"""Trees of DICOM series -> a folder of patch records with an index: what `data/make_patches.py` does.

In order: make the folder, find series, pair them, split them, survey every slice, check for leakage, distribute the
patches, cut. Nothing is written before all of it is known to work, and only one slice is in memory at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from stan_ct import __version__
from stan_ct.ct.fingerprint import Fingerprint, SeriesCharacteristics
from stan_ct.ct.protocol import Protocol, distinct_protocols, same_protocol
from stan_ct.dicom.apart import check_apart
from stan_ct.dicom.characteristics import read_characteristics
from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import write_together
from stan_ct.parallel import Workers
from stan_ct.patches.adjacent import adjacent_in_pair, image_names
from stan_ct.patches.cutting import Shard, Survey, survey
from stan_ct.patches.front_end import Fitted, fit_front_end
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series
from stan_ct.patches.plan import PatchSettings, check_margin, make_shards, margin_of, num_requested, patches_per_pair, plan_text
from stan_ct.patches.record_folder import INDEX, INSTANCES, cut_records, make_folder, start_folder
from stan_ct.patches.record_index import count_by_protocol, describe_pairs, source_instances
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.splits import BLOCKS, PARTS, Key, Parts, by_blocks, by_patient, check_leakage, find_trees, key_of
from stan_ct.patches.training_slices import describe_slices

IMAGES, UNFILTERED = ("source", "filtered", "target"), ("source", "target")
"""Images of a record, before the adjacent slices, with and without a front end."""


def make_patches(settings: PatchSettings, workers: int = 1) -> dict:
    """Finds pairs, splits them, fits the front end, and writes the records.

    A slice that cannot be read is left out, with its partners, and named in the index under `refused`.

    Files that an earlier run with the same settings and series has completed are kept; those of other settings or
    series are removed first. The bytes do not depend on the number of workers.

    Args:
        settings: Input, pairing, split and number of patches.
        workers: Number of processes that read and cut.
    Returns:
        The index, as written to `output_dir/index.json` when all else is.
    Raises:
        PairingError: If there are no pairs, the split cannot be made or leaks, the margin does not fit, or no slice of a part
            can be read.
        UsageError: If `output_dir` is a folder of an input.
        OSError: If an input tree does not exist, `output_dir` cannot be written to, or the disk has too little space.
        BrokenProcessPool: If a worker was killed.
    """
    rule, folder = settings.rule, Path(settings.output_dir)
    check_apart(folder, settings.input_dir)
    make_folder(folder)
    found, refusals = find_trees(
        settings.input_dir, settings.split == "folders", lambda p: tqdm(p, "reading headers", unit="file", disable=None)
    )
    parts = _split(found, rule, settings)
    check_margin(parts["train"], settings.margin)
    with Workers(workers) as pool:
        surveyed = _survey(parts, settings, pool)
        parts = _readable(parts, surveyed)
        refusals += [refusal for found in surveyed.values() for refusal in found.refused.values()]
        digests = {key: found.digests for key, found in surveyed.items()}
        leakage = "blocks of one study on both sides" if settings.split in BLOCKS else check_leakage(parts, digests)
        counts = {}
        for part, pairs in parts.items():
            capacities = [[surveyed[key_of(pair.source)].capacities[z] for z, _ in pair.slices] for pair in pairs]
            counts[part] = patches_per_pair(part, pairs, capacities, settings)
        fitted = _fit(parts, settings)
        fingerprints = _fingerprints(parts, surveyed, settings, pool)
        shards = {part: make_shards(part, parts[part], counts[part], fitted.front_end, settings) for part in parts}
        if settings.adjacent_slices:
            shards = {part: [_with_adjacent(shard, surveyed, settings) for shard in shards[part]] for part in shards}
        everything = [shard for part in parts for shard in shards[part]]
        start_folder(folder, plan_text(everything, digests, settings), everything)
        written = cut_records(everything, pool)
    index = {
        "version": __version__,
        "settings": asdict(settings),
        "patches": {part: sum(written[s.path] for s in shards[part]) for part in parts},
        "slices": {part: sum(len(pair.slices) for pair in pairs) for part, pairs in parts.items()},
        "asked": {part: num_requested(part, pairs, settings) for part, pairs in parts.items()},
        "record_side": {part: PATCH_SIZE + 2 * margin_of(part, settings) for part in parts},
        "protocols": {part: count_by_protocol(shards[part], written) for part in parts},
        "pairs": describe_pairs(shards, written),
        **describe_slices(parts),
        "refused": [f"{r.reason}: {path}" for r in refusals for path in r.paths],
        "images": [*(IMAGES if fitted.front_end else UNFILTERED), *image_names(settings.adjacent_slices)],
        "front_end": fitted.front_end.to_json() if fitted.front_end else {},
        "front_end_choices": fitted.choices,
        "sharpens": fitted.sharpens,
        "fingerprints": fingerprints,
        "leakage": leakage,
    }
    files = {}
    for part in INSTANCES.keys() & parts.keys():
        files[INSTANCES[part]] = "".join(f"{uid}\n" for uid in source_instances(parts[part]))
    write_together(folder, files | {INDEX: json.dumps(index, indent=1) + "\n"})
    return index


def _split(found: dict[str, list[SeriesFiles]], rule: PairingRule, settings: PatchSettings) -> Parts:
    """Pairs series and splits the pairs."""
    if settings.split == "folders":
        missing = {"train", "validation"} - found.keys()
        if missing:
            raise PairingError(f"--split=folders found no folder {' or '.join(sorted(missing))} in {settings.input_dir}")
        return {part: pair_series(found[part], rule, settings.pair_by) for part in PARTS if part in found}
    pairs = pair_series(found[""], rule, settings.pair_by)
    if settings.split in BLOCKS:
        return by_blocks(pairs, settings.block, settings.split == "halves")
    return by_patient(pairs, settings.validation_fraction, settings.test_fraction, settings.seed)


def _survey(parts: Parts, settings: PatchSettings, pool: Workers) -> dict[Key, Survey]:
    """Digest and capacity of every slice that is paired, or may be adjacent to one that is; each series is read once."""
    slices: dict[Key, set[int]] = defaultdict(set)
    series: dict[Key, SeriesFiles] = {}
    for pair in (pair for pairs in parts.values() for pair in pairs):
        for files, side in ((pair.source, 0), (pair.target, 1)):
            whole = settings.adjacent_slices and not side
            slices[key_of(files)].update(range(len(files.instances)) if whole else (both[side] for both in pair.slices))
            series[key_of(files)] = files
    tasks = [(series[key], sorted(slices[key]), settings.resized) for key in series]
    return dict(zip(series, pool.map(survey, tasks, [len(t[1]) for t in tasks], "look at slices"), strict=True))


def _with_adjacent(shard: Shard, surveyed: Mapping[Key, Survey], settings: PatchSettings) -> Shard:
    """A file with the slices beside those that it is cut from; where blocks are held back, of its own blocks alone."""
    pair = shard.pair
    own, readable = {z for z, _ in pair.slices}, surveyed[key_of(pair.source)].digests
    usable = own if settings.split in BLOCKS else readable
    return replace(shard, adjacent=adjacent_in_pair(pair, settings.adjacent_slices, usable))


def _readable(parts: Parts, surveyed: Mapping[Key, Survey]) -> Parts:
    """The pairs without the slices that cannot be read.

    Raises:
        PairingError: If nothing is left of a part.
    """
    found: Parts = {}
    for part, pairs in parts.items():
        refused = [(surveyed[key_of(pair.source)].refused, surveyed[key_of(pair.target)].refused) for pair in pairs]
        rest = [pair.without(*numbers) for pair, numbers in zip(pairs, refused, strict=True)]
        found[part] = [pair for pair in rest if pair.slices]
        if pairs and not found[part]:
            first = next(refusal for both in refused for side in both for refusal in side.values())
            raise PairingError(
                f"no pair of {part} slices can be read, such as {first.paths[0]}: {first.reason}: {first.found}. {first.advice}"
            )
    return found


def _fit(parts: Parts, settings: PatchSettings) -> Fitted:
    """The front end, for each protocol of the sources that train."""
    train = parts["train"]
    found = _by_protocol([pair.source for pair in train], settings)
    validating = [(same_protocol(settings.protocol(pair.source), found), pair) for pair in parts["validation"]]
    groups = {
        str(protocol): ([train[i] for i in members], [pair for known, pair in validating if known == protocol])
        for protocol, members in found.items()
    }
    return fit_front_end(groups, settings.front_end)


def _by_protocol(series: Sequence[SeriesFiles], settings: PatchSettings) -> dict[Protocol, list[int]]:
    """Numbers of some series by what they are recognized by, in ascending order."""
    protocols = list(map(settings.protocol, series))
    found: dict[Protocol, list[int]] = {protocol: [] for protocol in distinct_protocols(protocols)}
    for i, protocol in enumerate(protocols):
        if known := same_protocol(protocol, found):
            found[known].append(i)
    return found


def _fingerprints(
    parts: Parts, surveyed: Mapping[Key, Survey], settings: PatchSettings, pool: Workers
) -> dict[str, list[dict]]:
    """Fingerprints of the series that a model of these records is made for: `sources`, one a protocol, and `target`."""
    chosen = [pair for part in ("train", "validation") for pair in parts[part]]
    sides = {"sources": [pair.source for pair in chosen], "target": [pair.target for pair in chosen]}
    series = {key_of(files): files for side in sides.values() for files in side}
    tasks = [(_without_refused(files, surveyed[key]),) for key, files in series.items()]
    measured = pool.map(read_characteristics, tasks, [1] * len(series), "measure noise")
    characteristics = dict(zip(series, measured, strict=True))
    found = {}
    for side, members in sides.items():
        keys = {p: dict.fromkeys(key_of(members[i]) for i in same) for p, same in _by_protocol(members, settings).items()}
        groups = {protocol: [characteristics[key] for key in keys[protocol]] for protocol in keys}
        found[side] = [asdict(_fingerprint(p.kernel, group, settings.adjacent_slices > 0)) for p, group in groups.items()]
    return found


def _fingerprint(kernel: str, series: Sequence[SeriesCharacteristics], adjacent: bool) -> Fingerprint:
    fingerprint = Fingerprint.from_series(kernel, series)
    return fingerprint.with_slice_spacing(series) if adjacent else fingerprint


def _without_refused(files: SeriesFiles, surveyed: Survey) -> SeriesFiles:
    """The slices of a series but for those that cannot be read."""
    return replace(files, instances=tuple(i for z, i in enumerate(files.instances) if z not in surveyed.refused))
