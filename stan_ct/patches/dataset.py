"""Patch records -> batches for training: shuffled, shifted, turned, mirrored, and mapped to the network's range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.patches.adjacent import image_names
from stan_ct.patches.record_index import read_index
from stan_ct.patches.sampling import PATCH_SIZE
from stan_ct.patches.tfrecord import FEATURE

SHUFFLED = 1024
"""Size of the shuffle buffer, records, 340 MB; the order of the files is random too."""
OPEN_FILES = 16
"""Number of files that are read in turn."""

plain = tf.autograph.experimental.do_not_convert
"""Of functions without branches and loops, whose translation to graphs would take longer than tracing them."""


def read_patches(
    folder: Path | str,
    split: str,
    window: HUWindow,
    batch_size: int,
    seed: int | None = None,
    repeat: bool = False,
    kernel: str | None = None,
    filtered: bool = False,
    adjacent: int = 0,
) -> tf.data.Dataset:
    """Batches of paired patches.

    Args:
        folder: Folder of records, as `make_patches` wrote it.
        split: `train`, `validation` or `test`.
        window: HU window that is mapped to [-1, 1].
        batch_size: Number of pairs in a batch, B.
        seed: Seed of shuffling and augmentation, which are the same for source and target; None keeps the order of the
            records and crops their middle. Equal seeds give equal batches.
        repeat: Whether to repeat the records for ever; all batches are then full.
        kernel: Source kernel of the patches; None for all.
        filtered: Whether sources are those that the front end filtered.
        adjacent: Number of slices before and after the source's that follow it as further channels.
    Returns:
        Dataset of (source, target), (B, 256, 256, 1 + 2 adjacent) and (B, 256, 256, 1) float32 in [-1, 1].
    Raises:
        FileNotFoundError: If the folder has no index, or lacks a file that it names.
        ValueError: If there are no such patches, or images are asked for that the records do not hold.
    Note:
        Augmentation is exact: a shift is another crop of a record that was cut with a margin, so nothing is wrapped or
        filled in, and rotations are quarter turns with and without a mirror image. Other angles would need interpolation,
        which smooths the very texture that is to be learnt.
    """
    index = read_index(folder)
    files = _files(Path(folder), index, split, kernel)
    side, images = index["record_side"][split], index["images"]
    chosen = tf.constant(_chosen(folder, images, filtered, adjacent))
    if seed is None:
        records = tf.data.TFRecordDataset(files)
        places = tf.data.Dataset.from_tensors(_middle(side)).repeat()
    else:
        records = _shuffled(files, seed)
        places = tf.data.Dataset.random(seed=seed).map(plain(lambda n: _random_place(n, side)))
    records = records.repeat() if repeat else records
    turns = _turns(side)

    @plain
    def crop(record: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        values = tf.io.parse_single_example(record, {FEATURE: tf.io.FixedLenFeature([], tf.string)})
        patches = tf.reshape(tf.io.decode_raw(values[FEATURE], tf.int16), (len(images), side * side))
        pair = tf.gather(patches, chosen)
        way, corner = place[0], place[1] * side + place[2]
        return tf.reshape(tf.gather(pair, tf.gather(turns, way) + corner, axis=1), (-1, PATCH_SIZE, PATCH_SIZE))

    @plain
    def to_network(pairs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        hu = tf.transpose(tf.cast(pairs, tf.float32), (0, 2, 3, 1))
        gray = tf.ensure_shape(tf.clip_by_value(window.normalize(hu), -1.0, 1.0), (None, PATCH_SIZE, PATCH_SIZE, len(chosen)))
        return gray[..., :-1], gray[..., -1:]

    pairs = tf.data.Dataset.zip(records, places).map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    pairs = pairs.batch(batch_size, drop_remainder=repeat)
    return pairs.map(to_network, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _chosen(folder: Path | str, images: list[str], filtered: bool, adjacent: int) -> list[int]:
    """Places of the source, the slices adjacent to it, and the target, among the images of a record."""
    if filtered and "filtered" not in images:
        raise ValueError(f"{folder} holds no filtered sources: make records with --front_end=amplitude, or train without one")
    beside = image_names(adjacent)
    if not set(beside) <= set(images):
        raise ValueError(f"{folder} holds too few adjacent slices: make records with --adjacent_slices={adjacent}")
    if beside and not filtered and "filtered" in images:
        raise ValueError(f"{folder} holds adjacent slices that the front end filtered: train with it, or make records without")
    return [images.index(name) for name in ("filtered" if filtered else "source", *beside, "target")]


def _files(folder: Path, index: dict, split: str, kernel: str | None) -> list[str]:
    """The files of a split, in the order of the index."""
    pairs = [pair for pair in index["pairs"] if pair["split"] == split and pair["shard"]]
    files = [folder / pair["shard"] for pair in pairs if kernel in (None, pair["source"]["kernel"])]
    if not files:
        there = ", ".join(
            sorted({f"{pair['split']} of {pair['source']['kernel']}" for pair in index["pairs"] if pair["shard"]})
        )
        raise ValueError(
            f"{folder} has no {split} patches{f' of kernel {kernel!r}' if kernel else ''}; it has {there or 'none'}"
        )
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist, but the index names it: run stan-ct make-patches again")
    return [str(path) for path in files]


def _shuffled(files: list[str], seed: int) -> tf.data.Dataset:
    """Records of many files in a random order that the seed determines, another one in each pass."""
    order = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=seed)
    cycle = min(len(files), OPEN_FILES)
    records = order.interleave(
        tf.data.TFRecordDataset, cycle_length=cycle, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return records.shuffle(SHUFFLED, seed=seed)


def _middle(side: int) -> tf.Tensor:
    """(turn, row, column) of a patch in the middle, not turned."""
    return tf.constant([0, (side - PATCH_SIZE) // 2, (side - PATCH_SIZE) // 2], tf.int32)


def _random_place(number: tf.Tensor, side: int) -> tf.Tensor:
    """(turn, row, column) from a random number below 2 ** 32."""
    ways, corners = 8, side - PATCH_SIZE + 1
    place = [number % ways, number // ways % corners, number // (ways * corners) % corners]
    return tf.cast(tf.stack(place), tf.int32)


def _turns(side: int) -> tf.Tensor:
    """Indices of the pixels of a turned patch in a flat (side, side) image, (8, 256 * 256) int32: 4 turns x 2 mirror images.

    One look-up crops, turns and mirrors: transposing and reversing int16 one after the other takes three times as long.
    """
    pixels = np.arange(PATCH_SIZE)[:, None] * side + np.arange(PATCH_SIZE)
    ways = [np.rot90(image, turns).ravel() for image in (pixels, pixels[:, ::-1]) for turns in range(4)]
    return tf.constant(np.stack(ways), tf.int32)
