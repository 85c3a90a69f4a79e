"""Patch records that are small enough to train on in a second."""

import json

import numpy as np
import pytest
from scipy import ndimage
from synthetic import write_ct

from stan_ct.patches.plan import PatchSettings
from stan_ct.patches.records import make_patches
from stan_ct.patches.tfrecord import write_records


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Records of a smooth volume and its sharpened twin: 8 training and 4 validation patches, with a front end."""
    folder = tmp_path_factory.mktemp("training")
    noise = np.random.default_rng(0).normal(0, 400, (6, 264, 264))
    soft = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))
    sharp = soft + 1.5 * (soft - ndimage.gaussian_filter(soft, (0, 2, 2)))
    for number, kernel, hu in ((1, "SOFT", soft), (2, "SHARP", sharp)):
        write_ct(folder / f"ct/{number}", np.rint(hu).astype(int) + 1024, kernel=kernel, series=number)
    settings = {"split": "blocks", "block": 1, "patches_per_slice": 2, "front_end": "amplitude", "margin": 4}
    index = make_patches(PatchSettings((str(folder / "ct"),), str(folder / "records"), ("SOFT",), "SHARP", **settings))
    assert index["patches"] == {"train": 8, "validation": 4}
    return folder / "records"


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """Seven training and five validation records, 260 x 260: the source is all 10 x its number in HU, the target is noise."""
    folder = tmp_path_factory.mktemp("numbered")
    rng = np.random.default_rng(0)
    pairs, sides = [], {"train": 260, "validation": 260}
    for split, number in (("train", 7), ("validation", 5)):
        hu = [np.stack([np.full((260, 260), 10 * i), rng.integers(-900, 900, (260, 260))]) for i in range(number)]
        write_records(folder / f"{split}.tfrecord", iter(np.asarray(hu, np.int16)))
        pairs.append({"split": split, "shard": f"{split}.tfrecord", "source": {"kernel": "SOFT"}})
    images = ["source", "target"]
    index = {
        "pairs": pairs,
        "record_side": sides,
        "patches": {"train": 7, "validation": 5},
        "images": images,
        "fingerprints": {},
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder
