"""Index of a folder of patch records: reading it, and the provenance of each file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from stan_ct.ct.protocol import Protocol, distinct_protocols, same_protocol
from stan_ct.dicom.series import SeriesFiles
from stan_ct.patches.cutting import Shard
from stan_ct.patches.pairs import SeriesPair
from stan_ct.patches.protocol import protocol_of
from stan_ct.patches.record_folder import INDEX, PLAN

TRAINING_PARTS = ("train", "validation")
"""Parts of the records that a training run depends on."""


def read_index(folder: Path | str) -> dict:
    """Reads the index of a folder of records.

    Args:
        folder: The folder, as `make_patches` wrote it.
    Raises:
        FileNotFoundError: If there is none, with what to run.
        ValueError: If an earlier version wrote it, whose records have another layout.
    """
    path = Path(folder) / INDEX
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: make patch records with stan-ct make-patches first")
    index = json.loads(path.read_text())
    if "images" not in index or "fingerprints" not in index:
        raise ValueError(f"{path} was written by an earlier version: make the records again with stan-ct make-patches")
    return index


def training_identity(folder: Path | str) -> dict[str, str]:
    """What tells the records of a training run from others: a value by name, equal wherever the folder and the DICOM lie.

    Args:
        folder: The folder, as `make_patches` wrote it.
    Returns:
        Digests of the series, and of their slices and patches, that train and validate, of the front end and of the protocols.
    """
    index, path = read_index(folder), Path(folder) / PLAN
    planned = json.loads(path.read_text())["files"] if path.exists() else {}
    found = {
        "front end": _digest(index["images"], index.get("front_end")),
        "protocols": _digest(index["fingerprints"]),
    }
    for part in TRAINING_PARTS:
        pairs = [pair for pair in index["pairs"] if pair["split"] == part]
        found[f"{part} series"] = _digest(sorted(_series_uids(pair) for pair in pairs))
        files = {pair["shard"]: [pair.get("patches"), planned.get(pair["shard"])] for pair in pairs if pair["shard"]}
        found[f"{part} slices"] = _digest(files, index["patches"][part], index["record_side"][part])
    return found


def _series_uids(pair: dict) -> tuple[str, str]:
    source, target = (pair.get(side, {}).get("series_uid", "") for side in ("source", "target"))
    return source, target


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def count_by_protocol(shards: Iterable[Shard], written: dict[Path, int]) -> dict[str, dict[str, int]]:
    """Number of pairs, slices and patches of each source -> target protocol.

    Args:
        shards: Files of one part.
        written: Path -> number of records in the file.
    """
    sums: dict[str, Counter] = defaultdict(Counter)
    for shard in shards:
        name = f"{protocol_of(shard.pair.source)} -> {protocol_of(shard.pair.target)}"
        sums[name].update(pairs=1, slices=len(shard.pair.slices), patches=written[shard.path])
    return {name: dict(counts) for name, counts in sorted(sums.items())}


def describe_pairs(shards: dict[str, list[Shard]], written: dict[Path, int]) -> list[dict]:
    """Provenance of each file; patients are numbered, not named, since the index is copied into model folders.

    Args:
        shards: Part -> its files.
        written: Path -> number of records in the file.
    """
    patients = sorted({shard.pair.source.patient for part in shards.values() for shard in part})
    return [
        {
            "source": _describe_series(shard.pair.source),
            "target": _describe_series(shard.pair.target),
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


def source_protocols(index: Mapping, pairs: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Pairs of an index by what their sources are recognized by: kernel, or kernel and slice thickness.

    Args:
        index: Index of a folder of records.
        pairs: Some of its pairs.
    Returns:
        `BR40`, or with the pairing `standard` `BR40 3 mm` -> its pairs; ascending.
    """
    by_thickness = index["settings"].get("pairing") == "standard"
    sources = [(p["source"]["kernel"], (by_thickness and p["source"]["slice_thickness"]) or 0.0) for p in pairs]
    protocols = [Protocol(*source) for source in sources]
    found: dict[Protocol, list[Mapping]] = {protocol: [] for protocol in distinct_protocols(protocols)}
    for pair, protocol in zip(pairs, protocols, strict=True):
        if known := same_protocol(protocol, found):
            found[known].append(pair)
    return {str(protocol): members for protocol, members in found.items()}


def _describe_series(series: SeriesFiles) -> dict:
    protocol = protocol_of(series)
    return {"series_uid": series.uid, "kernel": protocol.kernel, "slice_thickness": protocol.thickness or None}


def source_instances(pairs: Sequence[SeriesPair]) -> list[str]:
    """SOP Instance UIDs of the source slices of some pairs, each once."""
    return list(dict.fromkeys(pair.source.instances[z].uid for pair in pairs for z, _ in pair.slices))
