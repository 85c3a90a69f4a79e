"""Pairs per second from records on the disk into training: `python benchmarks/input_pipeline.py [FOLDER] [BATCH]`.

Makes 3,000 training records (1 GB) of random HU in a temporary folder below FOLDER, and times the whole tf.data pipeline
(shuffled, shifted, turned, mirrored, mapped to the network's range, in batches of 8), the same without augmentation, and
nothing but reading. Training must never wait for it: 300 pairs/s or more on 2 cores. Ends with 1 if that is missed.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stan_ct.quiet import quiet_start

with quiet_start():
    import tensorflow as tf

    from stan_ct.ct.hounsfield import HUWindow
    from stan_ct.parallel import usable_cores
    from stan_ct.patches.dataset import read_patches
    from stan_ct.patches.tfrecord import write_records

    tf.config.list_physical_devices("GPU")  # looks for them now

WANTED = 300
SHARDS, PER_SHARD, SIDE = 12, 250, 288


def make_records(folder: Path) -> None:
    """Files of random pairs, with what of an index reading needs."""
    rng = np.random.default_rng(0)
    names = [f"train-{n}.tfrecord" for n in range(SHARDS)]
    for name in names:
        pairs = (rng.integers(-1100, 1600, (2, SIDE, SIDE), dtype=np.int16) for _ in range(PER_SHARD))
        write_records(folder / name, pairs)
    pairs = [{"split": "train", "shard": name, "source": {"kernel": "A"}} for name in names]
    index = {"pairs": pairs, "record_side": {"train": SIDE}, "images": ["source", "target"], "fingerprints": {}}
    (folder / "index.json").write_text(json.dumps(index))


def pairs_per_second(batches: tf.data.Dataset, batch: int, seconds: float = 8.0) -> float:
    """Speed over some seconds, once the buffers are full."""
    iterator = iter(batches)
    for _ in range(1200 // batch):
        next(iterator)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(iterator)
        count += batch
    return count / (time.perf_counter() - start)


def main(folder: str | None = None, batch: int = 8) -> int:
    """Prints the table."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        records = Path(temporary)
        make_records(records)
        files = sorted(map(str, records.glob("*.tfrecord")))
        ways = {
            "whole pipeline": read_patches(records, "train", HUWindow(), batch, seed=0, repeat=True),
            "without shuffling and augmentation": read_patches(records, "train", HUWindow(), batch, repeat=True),
            "reading alone": tf.data.TFRecordDataset(files).repeat().batch(batch),
        }
        print(f"{usable_cores()} cores, batches of {batch}\n{'':36}  pairs/s  of {WANTED}")
        speeds = {}
        for name, batches in ways.items():
            speeds[name] = pairs_per_second(batches, batch)
            print(f"{name:36} {speeds[name]:8.0f} {speeds[name] / WANTED:7.1f}")
    return int(speeds["whole pipeline"] < WANTED)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2], *map(int, sys.argv[2:3])))
