"""Records -> batches: every number is followed from the record to the network, and pairs stay pairs."""

import json
from collections import Counter

import numpy as np
import pytest
from paired_series import records, settings, volume, write_pair

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.patches.dataset import read_patches
from stan_ct.patches.records import make_patches
from stan_ct.patches.tfrecord import write_records

WINDOW = HUWindow()
WAYS = [(turns, flip) for turns in range(4) for flip in (False, True)]


def write_folder(folder, shards, split="train"):
    """A folder of records: for each shard its source kernel and patches, (n, 2 or 3, S, S) HU."""
    (folder / "records").mkdir()
    pairs = []
    for n, (kernel, hu) in enumerate(shards):
        write_records(folder / f"records/{split}-{n}.tfrecord", iter(np.asarray(hu, np.int16)))
        pairs.append({"split": split, "shard": f"{split}-{n}.tfrecord", "source": {"kernel": kernel}})
    index = {"pairs": pairs, "record_side": {split: np.shape(shards[0][1])[-1]}}
    index["images"] = ["source", "filtered", "target"] if np.shape(shards[0][1])[1] == 3 else ["source", "target"]
    index["fingerprints"] = {}
    (folder / "records/index.json").write_text(json.dumps(index))
    return folder / "records"


def turned(image, way):
    return np.rot90(image, way[0])[:, :: -1 if way[1] else 1]


def hu_of(batch):
    """(source, target) of a batch, (B, 256, 256) HU."""
    return tuple(np.rint(WINDOW.to_hu(half[..., 0])).astype(int) for half in batch)


def place_and_way(patch, image):
    """The one (row, column, way) at which a patch lies in a record."""
    found = []
    for way in WAYS:
        back = turned(patch, (-way[0] % 4, False)) if not way[1] else turned(patch[:, ::-1], (-way[0] % 4, False))
        places = np.argwhere(image[: image.shape[0] - 255, : image.shape[1] - 255] == back[0, 0])
        found += [(int(i), int(j), way) for i, j in places if np.array_equal(image[i : i + 256, j : j + 256], back)]
    (one,) = found
    return one


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """One patient, six slices of 258 x 266 pixels, split by blocks: the folder."""
    folder = tmp_path_factory.mktemp("blocks")
    write_pair(folder / "ct", volume(6, 258, seed=1), volume(6, 258, seed=2))
    make_patches(settings(folder))
    return folder


def test_reading_maps_the_window(tmp_path):
    """The HU window maps to [-1, 1] linearly: its ends to -1 and 1, its middle to 0, and what lies beyond to its ends."""
    window = HUWindow(-1100.0, 1900.0)
    hu = np.zeros((2, 256, 256))
    hu[0, 0, :6] = -1100, 1900, 400, 1150, -3000, 3000
    ((source, target),) = read_patches(write_folder(tmp_path, [("A", [hu])]), "train", window, 1)
    assert source.shape == target.shape == (1, 256, 256, 1)
    np.testing.assert_allclose(source[0, 0, :6, 0], [-1, 1, 0, 0.5, -1, 1], atol=1e-6)
    np.testing.assert_allclose(target, window.to_network(np.zeros((1, 256, 256, 1))), atol=1e-6)


def test_reading_keeps_order(blocks):
    """Without a seed patches come as they are written, and the last batch holds what is left."""
    folder = blocks
    batches = list(read_patches(folder / "records", "train", WINDOW, 3))
    assert [len(source) for source, _ in batches] == [3, 3, 2]
    for k in (0, 1):
        read = np.concatenate([batch[k] for batch in batches])[..., 0]
        np.testing.assert_allclose(WINDOW.to_hu(read), records(folder, "train")[:, k], atol=1e-3)


def test_same_augmentation(tmp_path):
    """Source and target of a pair are turned and mirrored alike; all eight ways occur, and no other."""
    source = volume(1)[0]
    folder = write_folder(tmp_path, [("A", [[source, -source]])])
    seen = Counter()
    for batch in read_patches(folder, "train", WINDOW, 8, seed=1, repeat=True).take(16):
        sources, targets = hu_of(batch)
        np.testing.assert_array_equal(sources, -targets)
        for patch in sources:
            (way,) = [way for way in WAYS if np.array_equal(turned(source, way), patch)]
            seen[way] += 1
    assert set(seen) == set(WAYS)
    assert max(seen.values()) < 40  # of 128; 16 expected


def test_shifts_stay_inside_the_record(tmp_path):
    """A shift is another crop of the record, the same for source and target: no pixel wraps around or is made up.

    All corners from 0 to twice the margin occur, and shifts and turns do not go together.
    """
    image = np.arange(264 * 264).reshape(264, 264) % 2399 - 1000  # each row starts with another value
    folder = write_folder(tmp_path, [("A", [[image, image[::-1]]])])
    places = []
    for batch in read_patches(folder, "train", WINDOW, 50, seed=3, repeat=True).take(5):
        for source, target in zip(*hu_of(batch), strict=True):
            row, column, way = place_and_way(source, image)
            np.testing.assert_array_equal(target, turned(image[::-1][row : row + 256, column : column + 256], way))
            places.append((row, column, way))
    rows, columns, ways = zip(*places, strict=True)
    assert set(rows) == set(columns) == set(range(9))
    assert set(ways) == set(WAYS)
    assert len(set(places)) > 180  # of 648 places and ways, in 250 draws: 208 expected


def test_the_middle_without_a_seed(tmp_path):
    """Without a seed the patch is the middle of the record, as it lies."""
    source, target = volume(2, 288)[:, :, :288]
    ((read_source, read_target),) = map(
        hu_of, read_patches(write_folder(tmp_path, [("A", [[source, target]])]), "train", WINDOW, 1)
    )
    np.testing.assert_array_equal(read_source[0], source[16:272, 16:272])
    np.testing.assert_array_equal(read_target[0], target[16:272, 16:272])


def order(folder, seed, repeat=False, passes=1):
    """The patches, told apart by their first source value, in the order in which they come."""
    batches = read_patches(folder, "train", WINDOW, 4, seed=seed, repeat=repeat)
    batches = batches.take(30 * passes // 4) if repeat else batches
    return [int(source.max()) for batch in batches for source in hu_of(batch)[0]]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """30 patches in five files; patch n holds the value n alone."""
    pairs = [np.full((2, 256, 256), n) for n in range(30)]
    return write_folder(tmp_path_factory.mktemp("numbered"), [("A", pairs[6 * k : 6 * k + 6]) for k in range(5)])


def test_seed_shuffles(numbered):
    """A seed gives an order of its own, the same each time; every patch comes once in each pass; files are mixed."""
    assert order(numbered, None) == list(range(30))
    assert order(numbered, 1) == order(numbered, 1) != order(numbered, 2)
    assert sorted(order(numbered, 1)) == sorted(order(numbered, 2)) == list(range(30))
    assert len({n // 6 for n in order(numbered, 1)[:10]}) > 2
    of_files = [[n for n in order(numbered, 1) if n // 6 == k] for k in range(5)]
    assert not any(numbers == sorted(numbers) for numbers in of_files)  # 1 in 720 each by chance


def test_passes_differ(numbered):
    """Each pass over the records has its own order, and has every patch."""
    twice = order(numbered, 1, repeat=True, passes=4)
    first, second = twice[:30], twice[30:60]
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


def test_one_kernel(tmp_path):
    """With `kernel` only patches of that source kernel come; a kernel or split that is not there is named."""
    shards = [(kernel, [np.full((2, 256, 256), n)]) for n, kernel in enumerate(("A", "B", "A"))]
    folder = write_folder(tmp_path, shards, split="test")

    def values(**kernel):
        return [int(source.max()) for batch in read_patches(folder, "test", WINDOW, 2, **kernel) for source in hu_of(batch)[0]]

    assert (values(), values(kernel="A"), values(kernel="B")) == ([0, 1, 2], [0, 2], [1])
    with pytest.raises(ValueError, match=r"no test patches of kernel 'C'; it has test of A, test of B$"):
        read_patches(folder, "test", WINDOW, 2, kernel="C")


def test_what_is_not_there(tmp_path):
    """Neither a split without patches nor a file that is gone is passed over."""
    folder = write_folder(tmp_path, [("A", [np.zeros((2, 256, 256))])])
    (folder / "train-0.tfrecord").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-0\.tfrecord does not exist, .* run stan-ct make-patches again"):
        read_patches(folder, "train", WINDOW, 1)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "record_side": {"train": 256, "validation": 256}}))
    with pytest.raises(ValueError, match="has no validation patches; it has train of A"):
        read_patches(folder, "validation", WINDOW, 1)


def test_repeat_gives_full_batches(blocks):
    """`repeat` goes on for ever in full batches, across the end of the records."""
    batches = read_patches(blocks / "records", "train", WINDOW, 5, seed=0, repeat=True)
    assert [len(source) for source, _ in batches.take(7)] == [5] * 7


def test_filtered_sources(tmp_path):
    """Of records with a front end the source comes as it is, or filtered on demand; without one, filtered is refused."""
    hu = np.arange(3)[None, :, None, None] * np.ones((1, 3, 256, 256), int)  # source 0, filtered 1, target 2
    folder = write_folder(tmp_path, [("A", hu)])
    for filtered in (False, True):
        ((source, target),) = (hu_of(batch) for batch in read_patches(folder, "train", WINDOW, 1, filtered=filtered))
        assert (source.min(), source.max(), target.min(), target.max()) == (filtered, filtered, 2, 2)
    (tmp_path / "bare").mkdir()
    bare = write_folder(tmp_path / "bare", [("A", hu[:, ::2])])
    with pytest.raises(ValueError, match=r"no filtered sources: make records with --front_end=amplitude"):
        read_patches(bare, "train", WINDOW, 1, filtered=True)


def test_adjacent_slices(tmp_path):
    """They follow the source as channels, shifted, turned and mirrored with it; the target has one channel."""
    rng = np.random.default_rng(0)
    hu = np.stack([rng.integers(-400, 400, (260, 260))] * 5) + np.array([0, 1, 2, 3, 4])[:, None, None]
    folder = with_images(write_folder(tmp_path, [("A", [hu])]), "source", "filtered", "target", "adjacent-1", "adjacent+1")
    for batch in read_patches(folder, "train", WINDOW, 1, seed=4, repeat=True, filtered=True, adjacent=1).take(5):
        source, target = (np.rint(WINDOW.to_hu(half)).astype(int) for half in batch)
        assert (source.shape, target.shape) == ((1, 256, 256, 3), (1, 256, 256, 1))
        own = source[..., :1]
        assert (source[..., 1:] - own == [2, 3]).all()
        assert (target - own == 1).all()
        place_and_way(own[0, ..., 0], hu[1])


@pytest.mark.parametrize(
    ("images", "filtered", "adjacent", "message"),
    [
        (("source", "target"), False, 1, "too few adjacent slices: make records with --adjacent_slices=1"),
        (("source", "target", "adjacent-1", "adjacent+1"), False, 2, "make records with --adjacent_slices=2"),
        (("source", "filtered", "target", "adjacent-1", "adjacent+1"), False, 1, "adjacent slices that the front end filtered"),
    ],
)
def test_adjacent_slices_that_records_do_not_hold(tmp_path, images, filtered, adjacent, message):
    """They are refused with what to do."""
    folder = with_images(write_folder(tmp_path, [("A", np.zeros((1, 2, 256, 256)))]), *images)
    with pytest.raises(ValueError, match=message):
        read_patches(folder, "train", WINDOW, 1, filtered=filtered, adjacent=adjacent)


def with_images(folder, *images):
    """The folder with other names of the images in its records."""
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"images": list(images)}))
    return folder


def test_records_of_an_earlier_version(tmp_path):
    """An index that does not say which images a record holds is refused, with what to do."""
    folder = write_folder(tmp_path, [("A", np.zeros((1, 2, 256, 256)))])
    index = json.loads((folder / "index.json").read_text())
    del index["images"]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"earlier version: make the records again"):
        read_patches(folder, "train", WINDOW, 1)
