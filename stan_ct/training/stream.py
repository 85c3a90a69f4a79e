"""Endless training batches that a resumed run continues where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.patches.dataset import read_index, read_patches


class Stream:
    """Training batches over all replicas, epoch after epoch.

    Each epoch has an order of its own that follows from the seed, so a position in the stream is a number of batches.

    Args:
        strategy: Distributes the batches.
        folder: Folder of patch records.
        window: HU <-> [-1, 1].
        batch_size: Patches in a batch, over all replicas.
        seed: Seed of order and augmentation.
        position: Number of batches to skip.
        filtered: Whether sources have passed the records' front end.
        adjacent: Number of slices before and after the source's that come with it.
    Attributes:
        position: Number of batches given out, skipped ones included.
        epoch_batches: Batches in an epoch.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        folder: Path | str,
        window: HUWindow,
        batch_size: int,
        seed: int,
        position: int = 0,
        filtered: bool = False,
        adjacent: int = 0,
    ) -> None:
        self._strategy, self._folder, self._window, self._images = strategy, folder, window, (filtered, adjacent)
        self._batch_size, self._seed, self.position = batch_size, seed, position
        self.epoch_batches = max(read_index(folder)["patches"]["train"] // batch_size, 1)
        self._batches: Iterator | None = None

    def __next__(self) -> tuple:
        """The next (source, target)."""
        if self._batches is None or self.position % self.epoch_batches == 0:
            self._batches = self._epoch(*divmod(self.position, self.epoch_batches))
        batch = next(self._batches)
        self.position += 1
        return batch

    def _epoch(self, number: int, skipped: int) -> Iterator:
        seed = self._seed + 1_000_003 * number
        filtered, adjacent = self._images
        batches = read_patches(
            self._folder, "train", self._window, self._batch_size, seed, True, filtered=filtered, adjacent=adjacent
        )
        options = tf.data.Options()  # every worker reads everything and takes its part: 2 workers train as 1 does
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        batches = batches.take(self.epoch_batches).skip(skipped).with_options(options)
        return iter(self._strategy.experimental_distribute_dataset(batches))
