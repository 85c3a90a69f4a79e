"""Small paired series on disk, and their records read without the product's code."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from synthetic import STUDY_UID, write_ct

from stan_ct.patches.plan import PatchSettings


def volume(slices, side=256, seed=0):
    """Noise in [-400, 400] HU that no two slices share, (Z, H, W) int."""
    return np.random.default_rng(seed).integers(-400, 401, (slices, side, side + 8 * (side > 256)))


def write_series(folder, hu, kernel, number, patient="P1", first=0, syntax="explicit", thickness=2.5):
    """One series, numbered within the patient's one study; its lowest slice lies where slice `first` of others does."""

    def edit(dataset, z):
        dataset.PatientID, dataset.StudyInstanceUID = patient, f"{STUDY_UID}.{patient[1:]}"
        dataset.FrameOfReferenceUID = f"{STUDY_UID}.{patient[1:]}.1000"
        dataset.ImagePositionPatient = ["-100", "-90.5", f"{(z + first) * 2.5:g}"]

    return write_ct(
        folder / f"{number}", np.asarray(hu) + 1024, kernel=kernel, series=number, edit=edit, syntax=syntax, thickness=thickness
    )


def write_pair(folder, source, target, patient="P1", number=1):
    """Series `number` of kernel SHARP and `number + 1` of kernel SOFT."""
    write_series(folder, source, "SHARP", number, patient)
    write_series(folder, target, "SOFT", number + 1, patient)


def settings(folder, **changes):
    """From `folder/ct` to `folder/records`: SHARP -> SOFT, two patches without margin from each slice."""
    defaults = {"source_kernels": ("SHARP",), "target_kernel": "SOFT", "split": "blocks", "block": 1, "patches_per_slice": 2}
    defaults |= {"margin": 0, "input_dir": (str(folder / "ct"),), "output_dir": str(folder / "records")}
    return PatchSettings(**{**defaults, **changes})


def shards(folder, split) -> list[Path]:
    """The files of a split."""
    return sorted((folder / "records").glob(f"{split}-*.tfrecord"))


def records(folder, split, side=256, images=2):
    """The records, read without the product's code: (n, images, side, side) int16 HU."""
    pairs = []
    for path in shards(folder, split):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            values = tf.train.Example.FromString(record).features.feature
            pairs.append(np.frombuffer(values["patches"].bytes_list.value[0], "<i2").reshape(images, side, side))
    return np.stack(pairs)


def held_back(folder, name="held_back.txt"):
    """SOP Instance UIDs of a list beside the records."""
    return (folder / "records" / name).read_text().split()


def place(patch, hu):
    """The (slice, row, column) of the one place in a volume that a patch was cut from."""
    height, width = patch.shape
    places = [p for p in np.argwhere(hu == patch[0, 0]) if p[1] + height <= hu.shape[1] and p[2] + width <= hu.shape[2]]
    (found,) = [(z, i, j) for z, i, j in places if np.array_equal(hu[z, i : i + height, j : j + width], patch)]
    return tuple(int(n) for n in found)
