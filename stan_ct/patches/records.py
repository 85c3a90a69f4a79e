"""Trees of DICOM series -> a folder of patch records with an index: what `data/make_patches.py` does.

In order: make the folder, find series, pair them, split them, look at every slice, check for leakage, share out the
patches, cut. Nothing is in the folder before all of it is known to work, and only one slice is in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stan_ct import __version__
from stan_ct.ct.filters import FrontEnd, fit_radial_filter
from stan_ct.ct.fingerprint import Fingerprint
from stan_ct.dicom.appearance import look_at
from stan_ct.dicom.series import SeriesFiles
from stan_ct.files import PARTIAL, write_atomically, write_together
from stan_ct.parallel import Workers
from stan_ct.patches.cutting import Shard, cut_shard, load_slice, survey
from stan_ct.patches.pairs import PairingError, PairingRule, SeriesPair, pair_series
from stan_ct.patches.plan import PatchSettings, asked, check_margin, make_shards, margin_of, patches_per_pair, plan_text
from stan_ct.patches.protocol import protocol_of
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.splits import BLOCKS, PARTS, Key, Parts, by_blocks, by_patient, check_leakage, find_trees, key_of
from stan_ct.patches.tfrecord import record_length

INDEX, PLAN = "index.json", "plan.json"
INSTANCES = {"validation": "held_back.txt", "test": "test_instances.txt"}
FIT_SLICES = 128
"""A radial filter is fitted on at most so many pairs of training slices, evenly spread."""
SPARE = 256 * 2**20
"""Bytes that stay free on the disk."""


def make_patches(settings: PatchSettings, workers: int = 1) -> dict:
    """Finds pairs, splits them, fits the front end, and writes the records.

    Files that an earlier run with the same settings and series has completed are kept; those of other settings or
    series are removed first. The bytes do not depend on the number of workers.

    Args:
        settings: See there.
        workers: Processes that read and cut.
    Returns:
        The index, as written to `output_dir/index.json` when all else is.
    Raises:
        PairingError: If there are no pairs, the split cannot be made or leaks, the margin does not fit, or a slice cannot
            be read.
        OSError: If an input tree does not exist, `output_dir` cannot be written to, or the disk has not enough room.
        BrokenProcessPool: If a worker was killed.
    """
    rule, folder = settings.rule, Path(settings.output_dir)
    _make_folder(folder)
    found, refusals = find_trees(settings.input_dir, settings.split == "folders", lambda p: tqdm(p, "files", disable=None))
    parts = _split(found, rule, settings)
    check_margin(parts["train"], settings.margin)
    with Workers(workers) as pool:
        seen = _survey(parts, settings.resized, pool)
        digests = {key: {z: digest for z, (digest, _) in slices.items()} for key, slices in seen.items()}
        leakage = "blocks of one study on both sides" if settings.split in BLOCKS else check_leakage(parts, digests)
        rooms = {part: [[seen[key_of(p.source)][z][1] for z, _ in p.slices] for p in pairs] for part, pairs in parts.items()}
        counts = {part: patches_per_pair(part, parts[part], rooms[part], settings) for part in parts}
        front_end, sharpens = _fit(parts["train"], settings.front_end)
        fingerprints = _fingerprints(parts, pool)
        shards = {part: make_shards(part, parts[part], counts[part], front_end, settings) for part in parts}
        everything = [shard for part in parts for shard in shards[part]]
        _start_folder(folder, plan_text(everything, digests, settings), everything)
        written = _cut(everything, pool)
    index = {
        "version": __version__,
        "settings": asdict(settings),
        "patches": {part: sum(written[s.path] for s in shards[part]) for part in parts},
        "slices": {part: sum(len(pair.slices) for pair in pairs) for part, pairs in parts.items()},
        "asked": {part: asked(part, pairs, settings) for part, pairs in parts.items()},
        "record_side": {part: PATCH_SIZE + 2 * margin_of(part, settings) for part in parts},
        "protocols": {part: _by_protocol(shards[part], written) for part in parts},
        "pairs": _describe_pairs(shards, written),
        "refused": [f"{r.reason}: {path}" for r in refusals for path in r.paths],
        "images": ["source", "filtered", "target"] if front_end else ["source", "target"],
        "front_end": front_end.to_json() if front_end else {},
        "sharpens": sharpens,
        "fingerprints": fingerprints,
        "leakage": leakage,
    }
    lists = {name: "".join(f"{uid}\n" for uid in _instances(parts[part])) for part, name in INSTANCES.items() if part in parts}
    write_together(folder, lists | {INDEX: json.dumps(index, indent=1) + "\n"})
    return index


def read_index(folder: Path | str) -> dict:
    """The index of a folder of records.

    Raises:
        FileNotFoundError: If there is none, with what to run.
        ValueError: If its records are laid out as an earlier version did.
    """
    path = Path(folder) / INDEX
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: make patch records with data/make_patches.py first")
    index = json.loads(path.read_text())
    if "images" not in index or "fingerprints" not in index:
        raise ValueError(f"{path} was written by an earlier version: make the records again with data/make_patches.py")
    return index


def _make_folder(folder: Path) -> None:
    """Makes the folder and tries to write to it, before all slices are looked at, which takes long.

    Raises:
        OSError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise OSError(f"cannot write to --output_dir={folder} ({error.strerror}): choose another") from error


def _split(found: dict[str, list[SeriesFiles]], rule: PairingRule, settings: PatchSettings) -> Parts:
    """Pairs series and splits the pairs."""
    if settings.split == "folders":
        missing = {"train", "validation"} - found.keys()
        if missing:
            raise PairingError(f"--split=folders found no folder {' or '.join(sorted(missing))} in {settings.input_dir}")
        return {part: pair_series(found[part], rule) for part in PARTS if part in found}
    pairs = pair_series(found[""], rule)
    if settings.split in BLOCKS:
        return by_blocks(pairs, settings.block, settings.split == "halves")
    return by_patient(pairs, settings.validation_fraction, settings.test_fraction, settings.seed)


def _survey(parts: Parts, resized: bool, pool: Workers) -> dict[Key, dict[int, tuple[str, int]]]:
    """Digest and room of every slice that is paired; each series is read once."""
    slices: dict[Key, set[int]] = defaultdict(set)
    series: dict[Key, SeriesFiles] = {}
    for pair in (pair for pairs in parts.values() for pair in pairs):
        for files, side in ((pair.source, 0), (pair.target, 1)):
            slices[key_of(files)].update(both[side] for both in pair.slices)
            series[key_of(files)] = files
    tasks = [(series[key], sorted(slices[key]), resized) for key in series]
    return dict(zip(series, pool.map(survey, tasks, [len(t[1]) for t in tasks], "look at slices"), strict=True))


def _fit(pairs: Sequence[SeriesPair], method: str) -> tuple[FrontEnd | None, bool]:
    """The front end, and whether the target kernel passes more of the high frequencies than the source kernels do."""
    filters, sharpens = {}, []
    for kernel in sorted({pair.source.kernel for pair in pairs}):
        images = _spread([pair for pair in pairs if pair.source.kernel == kernel])
        amplitude = fit_radial_filter(images)
        sharpens.append(amplitude.sharpens)
        filters[kernel] = amplitude if method != "wiener" else fit_radial_filter(images, "wiener")
    return FrontEnd(filters) if method != "none" else None, any(sharpens)


def _spread(pairs: Sequence[SeriesPair]) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float]]]:
    """Source slice, target slice and pixel spacing of `FIT_SLICES` evenly spread pairs of slices."""
    slices = [(pair, z, t) for pair in pairs for z, t in pair.slices]
    few = [slices[i * len(slices) // min(len(slices), FIT_SLICES)] for i in range(min(len(slices), FIT_SLICES))]
    return [
        (load_slice(pair.source, z).volume[0], load_slice(pair.target, t).volume[0], pair.source.pixel_spacing)
        for pair, z, t in tqdm(few, f"compare kernel {pairs[0].source.kernel} with {pairs[0].target.kernel}", disable=None)
    ]


def _fingerprints(parts: Parts, pool: Workers) -> dict[str, list[dict]]:
    """`sources`, of each source kernel, and the `target`: what series look like for which a model of these records is made."""
    chosen = [pair for part in ("train", "validation") for pair in parts[part]]
    sides = {"sources": [pair.source for pair in chosen], "target": [pair.target for pair in chosen]}
    series = {key_of(files): files for side in sides.values() for files in side}
    seen = dict(
        zip(series, pool.map(look_at, [(f,) for f in series.values()], [1] * len(series), "measure noise"), strict=True)
    )
    found = {}
    for side, members in sides.items():
        kernels = sorted({files.kernel for files in members})
        keys = {kernel: dict.fromkeys(key_of(f) for f in members if f.kernel == kernel) for kernel in kernels}
        found[side] = [asdict(Fingerprint.of(kernel, [seen[key] for key in keys[kernel]])) for kernel in kernels]
    return found


def _start_folder(folder: Path, plan: str, shards: Sequence[Shard]) -> None:
    """Makes room for the records of a plan: removes what another plan made, and what was left half made.

    Raises:
        OSError: If the disk has not enough room; nothing is removed then.
    """
    note = folder / PLAN
    same = note.exists() and note.read_text() == plan
    ours = [p for part in PARTS for pattern in (f"{part}-*", f"{part}.*") for p in folder.glob(pattern)]
    complete = {shard.path for shard in shards if same and _is_complete(shard)}
    stale = [p for p in ours if p.suffix == PARTIAL or (p.suffix == ".tfrecord" and p not in complete)]
    todo = [shard for shard in shards if shard.path not in complete]
    patches, size = sum(sum(shard.counts) for shard in shards), sum(sum(shard.counts) * _bytes(shard) for shard in todo)
    cost = f"{size / 1e9:.2f} GB"
    print(
        f"{folder}: {patches} patches in {len(shards)} files, {len(shards) - len(todo)} complete; {cost} to write",
        file=sys.stderr,
    )
    free = shutil.disk_usage(folder).free + sum(p.stat().st_size for p in stale) - SPARE
    if size > free:
        raise OSError(
            f"{folder} needs {cost} for records and its disk has {max(free, 0) / 1e9:.2f} GB to give: free space, choose "
            "another --output_dir, or ask for fewer patches"
        )
    for path in (*stale, *(folder / name for name in (INDEX, *INSTANCES.values()))):
        path.unlink(missing_ok=True)
    write_atomically(note, plan)


def _is_complete(shard: Shard) -> bool:
    """Whether the file is there, with as many records as planned; random sides may find fewer places than that."""
    if not shard.path.exists():
        return False
    count, rest = divmod(shard.path.stat().st_size, _bytes(shard))
    planned = sum(shard.counts)
    return rest == 0 and 0 < count <= planned and (shard.resized or count == planned)


def _cut(shards: Sequence[Shard], pool: Workers) -> dict[Path, int]:
    """Writes the shards that are not there yet; returns the number of records in each."""
    todo = [shard for shard in shards if sum(shard.counts) and not shard.path.exists()]
    pool.map(cut_shard, [(shard,) for shard in todo], [sum(shard.counts) for shard in todo], "cut patches")
    return {s.path: os.path.getsize(s.path) // _bytes(s) if s.path.exists() else 0 for s in shards}


def _bytes(shard: Shard) -> int:
    return record_length(PATCH_SIZE + 2 * shard.margin, shard.patches)


def _by_protocol(shards: Iterable[Shard], written: dict[Path, int]) -> dict[str, dict[str, int]]:
    """Pairs, slices and patches of each source -> target protocol."""
    sums: dict[str, Counter] = defaultdict(Counter)
    for shard in shards:
        name = f"{protocol_of(shard.pair.source)} -> {protocol_of(shard.pair.target)}"
        sums[name].update(pairs=1, slices=len(shard.pair.slices), patches=written[shard.path])
    return {name: dict(counts) for name, counts in sorted(sums.items())}


def _describe_pairs(shards: dict[str, list[Shard]], written: dict[Path, int]) -> list[dict]:
    """Provenance of each file; patients are numbered, since the index travels into model folders."""
    patients = sorted({shard.pair.source.patient for part in shards.values() for shard in part})
    return [
        {
            "source": _describe(shard.pair.source),
            "target": _describe(shard.pair.target),
            "slices": len(shard.pair.slices),
            "split": part,
            "patient": patients.index(shard.pair.source.patient) + 1,
            "shard": shard.path.name if written[shard.path] else None,
            "patches": written[shard.path],
            "seed": shard.seed,
        }
        for part in shards
        for shard in shards[part]
    ]


def _describe(series: SeriesFiles) -> dict:
    protocol = protocol_of(series)
    return {"series_uid": series.uid, "kernel": protocol.kernel, "slice_thickness": protocol.thickness or None}


def _instances(pairs: Sequence[SeriesPair]) -> list[str]:
    """SOP Instance UIDs of the source slices, each once."""
    return list(dict.fromkeys(pair.source.instances[z].uid for pair in pairs for z, _ in pair.slices))
