"""Rows of Table 1: test patches of the records through every method, measured once and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stan_ct import __version__
from stan_ct.arrays import DamagedArrays, read_arrays
from stan_ct.ct.hounsfield import soft_tissue_mask
from stan_ct.ct.protocol import Protocol
from stan_ct.errors import NotComparable
from stan_ct.evaluation.measure.measurement import MEASURES, Measured, measure_features, measure_hu
from stan_ct.features.glcm import Discretization
from stan_ct.files import open_atomically
from stan_ct.parallel import Workers
from stan_ct.patches.adjacent import image_names
from stan_ct.patches.record_folder import PLAN
from stan_ct.patches.record_index import read_index, source_protocols
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.tfrecord import read_records

BATCH = 32
"""Number of patches that a process measures at once."""

CHUNK = 512
"""Number of patches that a method synthesizes at once."""

SEPARATION = {
    "patient": "whole patients are either of the training or of the test",
    "folders": "patients of the training and of the test lie in different folders",
    "blocks": "blocks of slices of the same patients are held back from the training",
    "halves": "every second block of slices of the same patients is held back from the training",
}
"""Value of `PatchSettings.split` -> how test patches are separated from those of training, in words."""

Synthesize = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Function of patches, (N, 256, 256) float32 HU, that returns synthesized patches of that shape and P(real), (N,)."""


@dataclass(frozen=True)
class Method:
    """A row of Table 1.

    Attributes:
        name: Name in the table.
        sha256: Hash of the model, for the cache of measurements.
        front_end: Source protocol -> filter of the model, as in the index of records; empty without filters.
        load: Function that loads what synthesizes patches.
        adjacent_slices: Number of slices before and after each that it sees too.
    """

    name: str
    sha256: str
    front_end: dict[str, dict]
    load: Callable[[], Synthesize]
    adjacent_slices: int = 0


@dataclass(frozen=True)
class PatchSet:
    """Patches of one split and source protocol.

    Attributes:
        kernel: Kernel of the source; where the target has another slice thickness, kernel and thickness, `BR40 3 mm`.
        target_kernel: Kernel of the standard protocol, likewise.
        images: Names of the images in a record: `source`, perhaps `filtered`, and `target`.
        shards: Patches on disk, (n, K, S, S) int16 HU each.
        patients: Number of the patient of each patch, (N,) int.
        front_end: Filter that made `filtered`, or None.
        digest: Hash of everything that determines the patches.
        described: Description for the report.
        separation: How they are separated from patches of training, in words; empty if the index does not say.
        resized: Whether patches of other sides were resized.
    """

    kernel: str
    target_kernel: str
    images: tuple[str, ...]
    shards: tuple[np.ndarray, ...]
    patients: np.ndarray
    front_end: dict | None
    digest: str
    described: str
    separation: str = ""
    resized: bool = False

    def chunks(self, image: str, adjacent: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
        """Iterates over the image, the target and the source, (n, 256, 256) float32 HU each, up to `CHUNK` patches at a time.

        The margin of training patches is cropped. With `adjacent` slices on either side the image is (n, 256, 256, C).
        """
        places = [self.images.index(name) for name in (image, "target", "source")]
        seen = [self.images.index(name) for name in (image, *image_names(adjacent))]
        for shard in self.shards:
            margin = max(0, (shard.shape[-1] - PATCH_SIZE) // 2)
            middle = np.s_[margin : shard.shape[-1] - margin]
            for start in range(0, len(shard), CHUNK):
                some = shard[start : start + CHUNK, :, middle, middle]
                found = [some[:, place].astype(np.float32) for place in places]
                yield tuple([np.moveaxis(some[:, seen], 1, -1).astype(np.float32), *found[1:]] if adjacent else found)


def read_test_patches(folder: Path, split: str = "test") -> list[PatchSet]:
    """Reads the patches of one split, for every source protocol.

    Raises:
        FileNotFoundError: If the folder holds no records.
        NotComparable: If the records hold no patches of this split.
    """
    index = read_index(folder)
    images, side = tuple(index["images"]), index["record_side"].get(split)
    pairs = [pair for pair in index["pairs"] if pair["split"] == split and pair["shard"]]
    if not pairs:
        there = ", ".join(part for part, count in index["patches"].items() if count)
        raise NotComparable(f"{folder} holds no {split} patches, it has {there}: choose one of these with --split")
    plan, found = hashlib.sha256((folder / PLAN).read_bytes()).hexdigest(), []
    target, separation, resized = (
        str(Protocol(index["settings"]["target_kernel"], index["settings"].get("target_thickness", 0.0))),
        _separation(index),
        index["settings"].get("resized", False),
    )
    for kernel, mine in source_protocols(index, pairs).items():
        shards = tuple(read_records(folder / pair["shard"], len(images), side) for pair in mine)
        patients = np.repeat([pair["patient"] for pair in mine], [len(shard) for shard in shards])
        people, filtered = len(set(patients)), index["front_end"].get(kernel)
        described = f"{len(patients):,} {split} patches of {people} patient{'s' if people > 1 else ''}, in {folder}"
        key = _digest(plan, split, kernel, [len(shard) for shard in shards], _plain(filtered))
        found.append(PatchSet(kernel, target, images, shards, patients, filtered, key, described, separation, resized))
    return found


def _separation(index: Mapping) -> str:
    """How the patches are separated from those of training, and what was checked, in words."""
    how, checked = SEPARATION.get(index["settings"].get("split"), ""), index.get("leakage")
    shared = f"; no {', '.join(checked)} is in both" if isinstance(checked, Mapping) and how else ""
    return f"In the records {how}{shared}; that the models were trained on these records was not checked" if how else ""


def measure_methods(
    test: PatchSet,
    methods: Sequence[Method],
    discretization: Discretization,
    cache: Path,
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Measured]:
    """Measures target, source and the output of every method: the same patches and gray levels for all.

    Args:
        test: Patches.
        methods: Rows of Table 1.
        discretization: Map from HU to gray levels.
        cache: Folder of measurements; a run that was stopped continues after its last complete row.
        workers: Number of processes that measure.
        say: Function that prints a line.
    Returns:
        Name -> measurements: `target`, `source`, then the methods in their order.
    Raises:
        NotComparable: If the front end of a model is not that of the records, or two rows have the same name.
    """
    _check(test, methods)
    rows: dict[str, Measured] = {}
    with Workers(workers) as pool:
        for name, sha256, image, load, adjacent in (
            ("target", "", "target", None, 0),
            ("source", "", "source", None, 0),
            *((m.name, m.sha256, "filtered" if m.front_end else "source", m.load, m.adjacent_slices) for m in methods),
        ):
            path = cache / f"{_digest(__version__, test.digest, str(discretization), sha256, image, *MEASURES)[:32]}.npz"
            measured = _kept(path, len(test.patients))
            if measured is None:
                measured = _measure(
                    test.chunks(image, adjacent), load() if load else None, discretization, pool, f"{name}, {test.kernel}"
                )
                _keep(path, measured)
                say(f"{test.kernel}: {name} measured")
            rows[name] = measured
    return rows


def _check(test: PatchSet, methods: Sequence[Method]) -> None:
    names = ["target", "source", *(method.name for method in methods)]
    if len(set(names)) < len(names):
        raise NotComparable(f"rows need different names, got {', '.join(names)}")
    for method in methods:
        if not set(image_names(method.adjacent_slices)) <= set(test.images):
            raise NotComparable(
                f"model {method.name!r} sees adjacent slices, and these records hold too few: test it on records made with "
                f"--adjacent_slices={method.adjacent_slices}, or on DICOM series (stan-ct reconstruct, --synthesized_dir)"
            )
        if method.front_end and _plain(method.front_end.get(test.kernel)) != _plain(test.front_end):
            raise NotComparable(
                f"model {method.name!r} filters whole slices, and these records hold "
                f"{'patches of another filter' if test.front_end else 'no filtered patches'}: test it on the records that it "
                "was trained on (stan-ct make-patches --front_end), or on DICOM series (stan-ct reconstruct, --synthesized_dir)"
            )


def _measure(
    chunks: Iterator[tuple[np.ndarray, ...]],
    synthesize: Synthesize | None,
    discretization: Discretization,
    pool: Workers,
    label: str,
) -> Measured:
    parts: list[tuple[np.ndarray, ...]] = []
    for image, target, source in chunks:
        made = synthesize(image)[0] if synthesize else image
        batches = [slice(i, i + BATCH) for i in range(0, len(image), BATCH)]
        tasks = [(made[batch], target[batch], source[batch], discretization) for batch in batches]
        features, hu = zip(*pool.map(_measure_patches, tasks, [len(task[0]) for task in tasks], label), strict=True)
        parts.append((np.concatenate(features), np.concatenate(hu)))
    return Measured(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _measure_patches(
    image: np.ndarray, target: np.ndarray, source: np.ndarray, discretization: Discretization
) -> tuple[np.ndarray, np.ndarray]:
    """Features, (n, len(MEASURES)), and differences in HU, (n, len(PLACES), 4), of patches (n, H, W)."""
    masks = [soft_tissue_mask(patch) for patch in source]
    return measure_features(image, discretization), np.stack(list(map(measure_hu, image, target, masks)))


def _keep(path: Path, measured: Measured) -> None:
    """Writes a row; it is there complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        np.savez(file, features=measured.features, hu=measured.hu)


def _kept(path: Path, num_patches: int) -> Measured | None:
    """A row that an earlier run has written; None if there is none, or it is damaged."""
    try:
        stored = read_arrays(path)
        measured = Measured(features=stored["features"], hu=stored["hu"])
    except (OSError, KeyError, DamagedArrays):
        return None
    return measured if len(measured.features) == len(measured.hu) == num_patches else None


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def _plain(mapping: dict | None) -> str:
    """Mapping as JSON, in which tuples and lists are equal."""
    return json.dumps(mapping, sort_keys=True)
