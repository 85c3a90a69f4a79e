"""Patch records: paired slices -> TFRecord of int16 HU -> batches for training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from stan_ct import __version__
from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import HUWindow, soft_tissue_mask
from stan_ct.ct.refusal import Refused
from stan_ct.ct.series import SeriesFiles, find_series, load_series
from stan_ct.patches.fusion import extract, pad_to
from stan_ct.patches.pairs import PairingError, SeriesPair, Split, held_back, pair_series
from stan_ct.patches.sampling import PATCH_SIZE, Patch, RectangleSums, SamplingRule

INDEX = "index.json"
HELD_BACK = "held_back.txt"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class PatchSettings:
    """What `data/make_patches.py` makes.

    Attributes:
        input_dir: Tree of DICOM series.
        output_dir: Where records and index go.
        source_kernel: Convolution Kernel of the non-standard protocol.
        target_kernel: Convolution Kernel of the standard protocol.
        split: How validation is kept apart, see `held_back`.
        validation_fraction: Share of patients held back.
        block: Slices in a block of the split `blocks`.
        patches_per_slice: Random patches cut from each slice.
        resized: True: sides of 100..256 resized to 256 (the paper); False: 256 pixels at native scale.
        front_end: `amplitude` or `wiener`: fit this radial filter on the training slices and cut source patches from
            filtered slices; `none`: the paper.
        seed: Chooses patches and patients.
    """

    input_dir: str
    output_dir: str
    source_kernel: str
    target_kernel: str
    split: Split = "patient"
    validation_fraction: float = 0.2
    block: int = 4
    patches_per_slice: int = 40
    resized: bool = False
    front_end: str = "none"
    seed: int = 0


def make_patches(settings: PatchSettings) -> dict:
    """Finds pairs, splits them, fits the front end, and writes the records.

    Returns:
        The index, as written to `output_dir/index.json`.
    Raises:
        PairingError: If there are no pairs or the split cannot be made.
        FileNotFoundError: If `input_dir` does not exist.
    """
    found = find_series(settings.input_dir)
    pairs = pair_series(found.series, settings.source_kernel, settings.target_kernel)
    chosen = held_back(pairs, settings.split, settings.validation_fraction, settings.block, settings.seed)
    volumes = [_load_pair(pair) for pair in pairs]
    where = {
        "train": [(i, k) for i, p in enumerate(pairs) for k in range(len(p.slices)) if (i, k) not in chosen],
        "validation": sorted(chosen),
    }
    front_end = None
    if settings.front_end != "none":
        slices = ((*volumes[i][k], pairs[i].source.pixel_spacing) for i, k in where["train"])
        front_end = fit_radial_filter(slices, settings.front_end)
    folder = Path(settings.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(settings.seed)
    counts = {}
    for split in SPLITS:
        examples = _examples(pairs, volumes, tqdm(where[split], desc=f"{split} slices"), front_end, settings, rng)
        counts[split] = _write(folder / f"{split}.tfrecord", examples)
    uids = [pairs[i].source.instances[pairs[i].slices[k][0]].uid for i, k in where["validation"]]
    (folder / HELD_BACK).write_text("\n".join(uids) + "\n")
    index = {
        "version": __version__,
        "settings": asdict(settings),
        "patches": counts,
        "slices": {split: len(where[split]) for split in SPLITS},
        "pairs": [{"source": _describe(p.source), "target": _describe(p.target), "slices": len(p.slices)} for p in pairs],
        "refused": [f"{r.reason}: {path}" for r in found.refusals for path in r.paths],
        "front_end": asdict(front_end) if front_end else None,
        "sharpens": _sharpens(pairs, volumes, where["train"]),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return index


def read_index(folder: Path | str) -> dict:
    """The index of a folder of records.

    Raises:
        FileNotFoundError: If there is none, with what to run.
    """
    path = Path(folder) / INDEX
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: make patch records with data/make_patches.py first")
    return json.loads(path.read_text())


def read_patches(
    folder: Path | str, split: str, window: HUWindow, batch_size: int, seed: int | None = None, repeat: bool = False
) -> tf.data.Dataset:
    """Batches of paired patches.

    Args:
        folder: Where `make_patches` wrote.
        split: `train` or `validation`.
        window: Maps HU to the network's range.
        batch_size: B.
        seed: Shuffles and augments (quarter turns and mirror images, the same for both); None keeps the records' order.
        repeat: Whether to go on for ever; batches are then all full.
    Returns:
        Dataset of (source, target), each (B, 256, 256, 1) float32 in [-1, 1].
    """
    records = tf.data.TFRecordDataset(str(Path(folder) / f"{split}.tfrecord"))
    if seed is not None:
        records = records.shuffle(2048, seed=seed)
    if repeat:
        records = records.repeat()

    def parse(record: tf.Tensor) -> tf.Tensor:
        values = tf.io.parse_single_example(record, {"pair": tf.io.FixedLenFeature([], tf.string)})
        hu = tf.cast(tf.reshape(tf.io.decode_raw(values["pair"], tf.int16), (2, PATCH_SIZE, PATCH_SIZE, 1)), tf.float32)
        return tf.clip_by_value((hu - window.low) * (2.0 / (window.high - window.low)) - 1.0, -1.0, 1.0)

    def augment(pair: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        pair = tf.image.rot90(pair, number % 4)
        return tf.cond(number >= 4, lambda: tf.image.flip_left_right(pair), lambda: pair)

    pairs = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if seed is not None:
        turns = tf.data.Dataset.random(seed=seed).map(lambda n: tf.cast(n % 8, tf.int32))
        pairs = tf.data.Dataset.zip(pairs, turns).map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    pairs = pairs.batch(batch_size, drop_remainder=repeat)
    return pairs.map(lambda batch: (batch[:, 0], batch[:, 1])).prefetch(tf.data.AUTOTUNE)


def _load_pair(pair: SeriesPair) -> list[tuple[np.ndarray, np.ndarray]]:
    """The paired slices of two series, (H, W) HU each."""
    try:
        source, target = load_series(pair.source), load_series(pair.target)
    except Refused as refused:
        raise PairingError(f"{pair.source.name} / {pair.target.name}: {refused}") from refused
    if source.refusals or target.refusals:
        broken = [str(path) for refusal in (*source.refusals, *target.refusals) for path in refusal.paths]
        raise PairingError(f"cannot read {', '.join(broken)}: remove these slices or export the series again")
    return [(source.volume[z], target.volume[t]) for z, t in pair.slices]


def _examples(
    pairs: list[SeriesPair],
    volumes: list[list[tuple[np.ndarray, np.ndarray]]],
    where: list[tuple[int, int]],
    front_end: RadialFilter | None,
    settings: PatchSettings,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Paired soft-tissue patches, (2, 256, 256) int16 HU."""
    for i, k in where:
        source, target = (pad_to(image, PATCH_SIZE, PATCH_SIZE) for image in volumes[i][k])
        patches = _soft_tissue_patches(soft_tissue_mask(source), settings, rng)
        if front_end is not None:
            source = front_end(source, pairs[i].source.pixel_spacing)
        size = PATCH_SIZE if settings.resized else None
        for patch in patches:
            both = np.concatenate([extract(image, [patch], size) for image in (source, target)])
            yield np.clip(np.rint(both), -32768, 32767).astype(np.int16)


def _soft_tissue_patches(soft_tissue: np.ndarray, settings: PatchSettings, rng: np.random.Generator) -> list[Patch]:
    """Random patches of which at least 70 % is soft tissue; fewer than asked for where the slice has few places."""
    rule, sums, found = SamplingRule(), RectangleSums(soft_tissue), []
    for _ in range(20 * settings.patches_per_slice):
        side = int(rng.integers(rule.sides[0], rule.sides[1] + 1)) if settings.resized else PATCH_SIZE
        row, column = (int(rng.integers(0, n - side + 1)) for n in soft_tissue.shape)
        if sums(row, column, side, side) >= rule.min_soft_tissue * side * side:
            found.append(Patch(row, column, side, side))
        if len(found) == settings.patches_per_slice:
            break
    return found


def _write(path: Path, examples: Iterator[np.ndarray]) -> int:
    """Writes records; the file appears when it is complete. Returns how many."""
    partial, count = path.with_suffix(".partial"), 0
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for pair in examples:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[pair.tobytes()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"pair": feature})).SerializeToString())
            count += 1
    partial.replace(path)
    return count


def _describe(series: SeriesFiles) -> dict:
    return {"series_uid": series.uid, "kernel": series.kernel, "slice_thickness": series.slice_thickness}


def _sharpens(pairs: list[SeriesPair], volumes: list, where: list[tuple[int, int]]) -> bool:
    """Whether the target kernel passes more of the high frequencies than the source kernel."""
    return fit_radial_filter((*volumes[i][k], pairs[i].source.pixel_spacing) for i, k in where).sharpens
