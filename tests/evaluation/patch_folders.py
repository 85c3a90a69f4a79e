"""Folders of patch records and of models that need no network."""

import json
from pathlib import Path

import numpy as np

from stan_ct.patches.tfrecord import write_records

FILTER = {"frequency": [0.0, 10.0], "gain": [1.0, 2.0], "ceiling": []}


def write_folder(folder: Path, shards: dict, split="test", filtered=None, plan="{}", **index) -> Path:
    """Records of one shard for each (kernel, patient) -> patches (n, K, S, S) HU, K = 3 where a filter made the second."""
    folder.mkdir(parents=True)
    pairs, images = [], ["source", "filtered", "target"] if filtered else ["source", "target"]
    for number, ((kernel, patient), hu) in enumerate(shards.items()):
        name = f"{split}-{number}.tfrecord"
        write_records(folder / name, iter(np.asarray(hu, np.int16)))
        pairs.append({"split": split, "shard": name, "source": {"kernel": kernel}, "patient": patient})
        side, count = np.shape(hu)[-1], len(hu)
    content = {"images": images, "record_side": {split: side}, "patches": {split: count}, "pairs": pairs}
    content |= {
        "fingerprints": {},
        "front_end": {kernel: filtered for kernel, _ in shards} if filtered else {},
        "settings": {"target_kernel": "SOFT", "split": "patient"},
        **index,
    }
    (folder / "index.json").write_text(json.dumps(content))
    (folder / "plan.json").write_text(plan)
    return folder
