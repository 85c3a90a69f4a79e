"""DICOM pairs -> records -> batches: every number is followed from the slice to the network."""

import json

import numpy as np
import pydicom
import pytest
import tensorflow as tf
from pydicom.encaps import encapsulate
from synthetic import STUDY_UID, write_ct

from stan_ct.ct.filters import RadialFilter, fit_radial_filter
from stan_ct.ct.hounsfield import HUWindow
from stan_ct.patches.dataset import PatchSettings, _write, make_patches, read_index, read_patches
from stan_ct.patches.pairs import PairingError

SPACING = (0.7, 0.7)
WINDOW = HUWindow()


def volume(slices, side=256, seed=0):
    """Noise in [-400, 400] HU that no two slices share, (Z, H, W) int."""
    return np.random.default_rng(seed).integers(-400, 401, (slices, side, side + 8 * (side > 256)))


def write_series(folder, hu, kernel, number, patient="P1", first=0, syntax="explicit"):
    """One series, numbered within the patient's one study; its lowest slice lies where slice `first` of others does."""

    def edit(dataset, z):
        dataset.PatientID, dataset.StudyInstanceUID = patient, f"{STUDY_UID}.{patient[1:]}"
        dataset.ImagePositionPatient = ["-100", "-90.5", f"{(z + first) * 2.5:g}"]

    return write_ct(folder / f"{number}", hu + 1024, kernel=kernel, series=number, edit=edit, syntax=syntax)


def write_pair(folder, source, target, patient="P1", number=1):
    """Series `number` of kernel SHARP and `number + 1` of kernel SOFT."""
    write_series(folder, source, "SHARP", number, patient)
    write_series(folder, target, "SOFT", number + 1, patient)


def settings(folder, **changes):
    defaults = {"source_kernel": "SHARP", "target_kernel": "SOFT", "split": "blocks", "block": 1, "patches_per_slice": 2}
    return PatchSettings(str(folder / "ct"), str(folder / "records"), **{**defaults, **changes})


def records(folder, split):
    """The records, read without the product's code: (n, 2, 256, 256) int16 HU."""
    pairs = []
    for record in tf.data.TFRecordDataset(str(folder / "records" / f"{split}.tfrecord")).as_numpy_iterator():
        values = tf.train.Example.FromString(record).features.feature
        pairs.append(np.frombuffer(values["pair"].bytes_list.value[0], "<i2").reshape(2, 256, 256))
    return np.stack(pairs)


def held_back(folder):
    return (folder / "records/held_back.txt").read_text().split()


def place(patch, hu):
    """The (slice, row, column) of the one place in a volume that a patch was cut from."""
    places = [p for p in np.ndindex(len(hu), hu.shape[1] - 255, hu.shape[2] - 255) if hu[p] == patch[0, 0]]
    (found,) = [(z, i, j) for z, i, j in places if np.array_equal(hu[z, i : i + 256, j : j + 256], patch)]
    return found


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """One patient, six slices of 258 x 266 pixels, split by blocks: the folder, source and target HU, and the index."""
    folder = tmp_path_factory.mktemp("blocks")
    source, target = volume(6, 258, seed=1), volume(6, 258, seed=2)
    write_pair(folder / "ct", source, target)
    return folder, source, target, make_patches(settings(folder))


def test_records_hold_the_slices(blocks):
    """A record is a place that source and target slice share, HU for HU; each slice gives `patches_per_slice` of them."""
    folder, source, target, index = blocks
    slices = {}
    for split in ("train", "validation"):
        pairs = records(folder, split)
        assert len(pairs) == index["patches"][split]
        where = [place(pair[0], source) for pair in pairs]
        assert [place(pair[1], target) for pair in pairs] == where
        slices[split] = [z for z, _, _ in where]
    assert slices == {"train": [0, 0, 1, 1, 3, 3, 4, 4], "validation": [2, 2, 5, 5]}
    assert index["slices"] == {"train": 4, "validation": 2}


def test_patches_lie_anywhere(tmp_path):
    """Patches of one slice lie at random places that the seed decides."""
    write_pair(tmp_path / "ct", volume(3, 258), volume(3, 258, seed=1))
    seen = []
    for seed in (1, 1, 2):
        make_patches(settings(tmp_path, seed=seed, patches_per_slice=4))
        seen.append([place(pair[0], volume(3, 258))[1:] for pair in records(tmp_path, "train")])
    assert seen[0] == seen[1] != seen[2]
    assert len(set(seen[0])) > 3


def test_soft_tissue_only(tmp_path):
    """At least 70 % of a patch is soft tissue of the source: a slice of bone and air gives no patch."""
    source, target = volume(3), volume(3, seed=1)
    source[1, :76] = 1000  # 29.7 % bone
    source[0, :, :78] = -1024  # 30.5 % air
    target[1] = 1000  # does not matter
    write_pair(tmp_path / "ct", source, target)
    assert make_patches(settings(tmp_path))["patches"] == {"train": 2, "validation": 2}
    assert {place(pair[0], source)[0] for pair in records(tmp_path, "train")} == {1}


def test_held_back_slices(blocks):
    """held_back.txt lists the SOP instances of the validation slices of the source, and training holds none of them."""
    folder, source, _, _ = blocks
    uids = held_back(folder)
    assert uids == [f"{STUDY_UID}.1.3", f"{STUDY_UID}.1.6"]
    kept_apart = {int(uid.rsplit(".", 1)[1]) - 1 for uid in uids}
    assert kept_apart == {place(pair[0], source)[0] for pair in records(folder, "validation")}
    assert not kept_apart & {place(pair[0], source)[0] for pair in records(folder, "train")}


def test_split_by_patient(tmp_path):
    """A split by patient keeps every slice of a patient on one side; the number held back is a rounded share."""
    volumes = {patient: volume(2, seed=patient) for patient in (1, 2, 3)}
    for patient, hu in volumes.items():
        write_pair(tmp_path / "ct", hu, -hu, f"P{patient}", number=10 * patient)
    make_patches(settings(tmp_path, split="patient", validation_fraction=0.4, patches_per_slice=1))
    everyone = np.concatenate(list(volumes.values()))
    trained, held = ([place(p[0], everyone)[0] // 2 for p in records(tmp_path, s)] for s in ("train", "validation"))
    assert (len(trained), len(held), len(set(held))) == (4, 2, 1)
    assert not set(trained) & set(held)
    assert held_back(tmp_path) == [f"{STUDY_UID}.{10 * (held[0] + 1)}.{n}" for n in (1, 2)]


def test_blocks_keep_a_slice_on_one_side(tmp_path):
    """A source slice that two target series pair with is on one side in both pairs, wherever each pair starts."""
    source = volume(8)
    write_pair(tmp_path / "ct", source, -source)
    write_series(tmp_path / "ct", source[2:] // 2, "SOFT", 3, first=2)
    make_patches(settings(tmp_path, patches_per_slice=1))
    trained, held = ({place(p[0], source)[0] for p in records(tmp_path, s)} for s in ("train", "validation"))
    assert len(records(tmp_path, "train")) + len(records(tmp_path, "validation")) == 8 + 6
    assert trained | held == set(range(8))
    assert not trained & held


def test_split_without_validation(tmp_path):
    """Too few slices for a third block are refused before anything is trained on records without validation."""
    write_pair(tmp_path / "ct", volume(2), volume(2))
    with pytest.raises(PairingError, match=r"--block|--split|validation"):
        make_patches(settings(tmp_path))


def test_one_patient_cannot_be_split(tmp_path):
    """A split by patient of one patient is refused, with the way out, and nothing is written."""
    write_pair(tmp_path / "ct", volume(3), volume(3))
    with pytest.raises(PairingError, match=r"at least two patients, found one\. .* --split=blocks"):
        make_patches(settings(tmp_path, split="patient"))
    assert not (tmp_path / "records").exists()


def test_unknown_kernel(tmp_path):
    """Kernels that are not there are named beside those that are."""
    write_pair(tmp_path / "ct", volume(1), volume(1))
    with pytest.raises(PairingError, match=r"kernel 'BONE' and one of 'SOFT' .* kernels found: SHARP, SOFT"):
        make_patches(settings(tmp_path, source_kernel="BONE"))


def test_front_end(tmp_path):
    """The front end is fitted on training slices alone and applied to whole source slices; targets stay as they are."""
    source, target = volume(3, 258, seed=3), volume(3, 258, seed=4) // 2
    target[2] = 3 * source[2] // 4  # held back, and very different
    write_pair(tmp_path / "ct", source, target)
    index = make_patches(settings(tmp_path, front_end="amplitude"))
    assert held_back(tmp_path) == [f"{STUDY_UID}.1.3"]
    fitted = RadialFilter(**{k: tuple(v) for k, v in index["front_end"].items()})
    train, everything = (fit_radial_filter([(source[z], target[z], SPACING) for z in range(n)]) for n in (2, 3))
    np.testing.assert_allclose(fitted.gain, train.gain, atol=1e-4)
    assert np.abs(np.subtract(fitted.gain, everything.gain)).max() > 0.02
    assert index["sharpens"] is False
    filtered = np.stack([np.rint(fitted(hu.astype(np.float32), SPACING)) for hu in source])
    for split in ("train", "validation"):
        for pair in records(tmp_path, split):
            z, i, j = place(pair[1], target)
            np.testing.assert_array_equal(pair[0], filtered[z, i : i + 256, j : j + 256])


def test_sharpens(tmp_path):
    """The index says whether the target kernel is the sharper one, without a front end too."""
    source = volume(3)
    write_pair(tmp_path / "ct", source, 2 * source)
    index = make_patches(settings(tmp_path))
    assert index["sharpens"] is True
    assert index["front_end"] is None


def test_index(blocks):
    """The index on disk is what was returned: settings, counts, and the series by UID and kernel."""
    folder, _, _, index = blocks
    assert json.loads((folder / "records/index.json").read_text()) == json.loads(json.dumps(index))
    assert read_index(folder / "records")["settings"]["target_kernel"] == "SOFT"
    assert index["pairs"] == [
        {
            "source": {"series_uid": f"{STUDY_UID}.1", "kernel": "SHARP", "slice_thickness": 2.5},
            "target": {"series_uid": f"{STUDY_UID}.2", "kernel": "SOFT", "slice_thickness": 2.5},
            "slices": 6,
        }
    ]


def test_no_index(tmp_path):
    """A folder without records is named, with the script that makes them."""
    with pytest.raises(FileNotFoundError, match=r"index\.json does not exist: make patch records with data/make_patches\.py"):
        read_index(tmp_path)


def test_resized_patches(tmp_path):
    """With `resized`, patches of any side from 100 pixels on become 256: a ramp becomes a flatter ramp of the same kind."""
    ramp = np.broadcast_to(3 * np.arange(256) - 400, (3, 256, 256))
    write_pair(tmp_path / "ct", ramp, -ramp)
    make_patches(settings(tmp_path, resized=True, patches_per_slice=10))
    pairs = records(tmp_path, "train").astype(float)
    np.testing.assert_allclose(pairs[:, 0], -pairs[:, 1], atol=1)
    sides = np.ptp(pairs[:, 0, 0], axis=-1) / 3
    assert len(set(np.rint(sides))) > 5
    assert 90 < sides.min() < sides.max() <= 256


def write_records(folder, pairs):
    (folder / "records").mkdir()
    _write(folder / "records/train.tfrecord", iter(np.asarray(pairs, np.int16)))
    return folder / "records"


def test_reading_maps_the_window(tmp_path):
    """The HU window maps to [-1, 1] linearly: its ends to -1 and 1, its middle to 0, and what lies beyond to its ends."""
    window = HUWindow(-1100.0, 1900.0)
    hu = np.zeros((2, 256, 256))
    hu[0, 0, :6] = -1100, 1900, 400, 1150, -3000, 3000
    ((source, target),) = read_patches(write_records(tmp_path, [hu]), "train", window, 1)
    assert source.shape == target.shape == (1, 256, 256, 1)
    np.testing.assert_allclose(source[0, 0, :6, 0], [-1, 1, 0, 0.5, -1, 1], atol=1e-6)
    np.testing.assert_allclose(target, window.to_network(np.zeros((1, 256, 256, 1))), atol=1e-6)


def test_reading_keeps_order(blocks):
    """Without a seed patches come as they are written, and the last batch holds what is left."""
    folder = blocks[0]
    batches = list(read_patches(folder / "records", "train", WINDOW, 3))
    assert [len(source) for source, _ in batches] == [3, 3, 2]
    for k in (0, 1):
        read = np.concatenate([batch[k] for batch in batches])[..., 0]
        np.testing.assert_allclose(WINDOW.to_hu(read), records(folder, "train")[:, k], atol=1e-3)


def test_same_augmentation(tmp_path):
    """Source and target of a pair are turned and mirrored alike; all eight ways occur, and no other."""
    source = volume(1)[0]
    folder = write_records(tmp_path, [[source, -source]])
    seen = set()
    ways = {(k, flip): np.rot90(source, k)[:, :: -1 if flip else 1] for k in range(4) for flip in (False, True)}
    batches = read_patches(folder, "train", WINDOW, 8, seed=1, repeat=True)
    for batch in batches.take(8):
        sources, targets = (np.rint(WINDOW.to_hu(half[..., 0])) for half in batch)
        np.testing.assert_array_equal(sources, -targets)
        for patch in sources:
            (way,) = [name for name, turned in ways.items() if np.array_equal(turned, patch)]
            seen.add(way)
    assert seen == set(ways)


def test_seed_shuffles(blocks):
    """A seed gives an order of its own, the same each time; every patch comes once in each pass."""
    folder = blocks[0]

    def order(seed):
        batches = read_patches(folder / "records", "train", WINDOW, 3, seed=seed)
        return [int(np.square(np.rint(WINDOW.to_hu(patch))).sum(dtype=np.int64)) for source, _ in batches for patch in source]

    assert order(1) == order(1) != order(2)
    written = [int(np.square(source.astype(np.int64)).sum()) for source, _ in records(folder, "train")]
    assert sorted(order(1)) == sorted(order(2)) == sorted(written)
    assert len(set(written)) > 5


def test_repeat_gives_full_batches(blocks):
    """`repeat` goes on for ever in full batches, across the end of the records."""
    batches = read_patches(blocks[0] / "records", "train", WINDOW, 5, seed=0, repeat=True)
    assert [len(source) for source, _ in batches.take(7)] == [5] * 7


def test_partial_file(tmp_path):
    """Records that break off leave the file of before alone, or none; complete ones replace it."""
    path = tmp_path / "train.tfrecord"
    pair = np.zeros((2, 256, 256), np.int16)

    def broken():
        yield pair
        assert not path.exists() or path.read_bytes() == before
        raise OSError("disk full")

    before = b""
    with pytest.raises(OSError, match="disk full"):
        _write(path, broken())
    assert not path.exists()
    assert _write(path, iter([pair])) == 1
    before = path.read_bytes()
    with pytest.raises(OSError, match="disk full"):
        _write(path, broken())
    assert path.read_bytes() == before
    assert _write(path, iter([pair, pair])) == 2
    assert len(path.read_bytes()) == 2 * len(before)


def test_unreadable_slice(tmp_path):
    """A slice that cannot be decoded is named, and no records are written from the rest of its series."""
    write_series(tmp_path / "ct", volume(3), "SOFT", 2)
    path = write_series(tmp_path / "ct", volume(3), "SHARP", 1, syntax="RLE")[1]
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"\xff" * 64])
    dataset.save_as(path)
    with pytest.raises(PairingError, match=r"^cannot read .*: remove these slices or export the series again$") as error:
        make_patches(settings(tmp_path))
    assert str(path) in str(error.value)
    assert not (tmp_path / "records").exists()
