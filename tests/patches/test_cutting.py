"""Where patches of a slice lie, what is cut with them, and how many come from where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stan_ct.patches.cutting import capacity, cut, distribute, sample_patches
from stan_ct.patches.sampling import Patch

FULL = np.ones((258, 266), bool)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_room_by_hand():
    """3 x 11 corners hold a patch of 256 in 258 x 266 pixels; bone in the upper rows leaves the lowest of them."""
    assert capacity(FULL, resized=False) == 33
    bone = FULL.copy()
    bone[:78] = False  # a patch from row r has 178 + r rows of soft tissue: 69.5, 69.9 and 70.3 % of 256
    assert capacity(bone, resized=False) == 11
    assert capacity(~FULL, resized=False) == capacity(~FULL, resized=True) == 0
    sides = (100, 139, 178, 217, 256)
    assert capacity(FULL, resized=True) == sum((259 - s) * (267 - s) for s in sides)


def test_draw_takes_every_place_once():
    """Asked for more than there is, a slice gives all its places once; the seed decides which and in what order."""
    patches = sample_patches(FULL, 50, False, rng())
    assert sorted((p.row, p.column) for p in patches) == [(r, c) for r in range(3) for c in range(11)]
    assert {(p.height, p.width) for p in patches} == {(256, 256)}
    one, same, other = (sample_patches(FULL, 5, False, rng(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one)) == 5


def test_draw_is_uniform():
    """Each of the 33 places comes up in about 5 of 33 draws of five."""
    counts = np.zeros((3, 11), int)
    generator = rng()
    for _ in range(2000):
        for p in sample_patches(FULL, 5, False, generator):
            counts[p.row, p.column] += 1
    expected = 2000 * 5 / 33
    assert counts.sum() == 10000
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_resized_sides():
    """Random sides are 100 to 256, all of them in turn, inside the slice, and soft tissue to 70 %."""
    mask = np.ones((300, 300), bool)
    mask[:, :120] = False
    patches = sample_patches(mask, 300, True, rng())
    sides = [p.height for p in patches]
    assert len(patches) == len(set(patches)) == 300
    assert all(p.height == p.width and 100 <= p.height <= 256 for p in patches)
    assert min(sides) < 105
    assert max(sides) > 250
    assert len(set(sides)) > 100
    assert all(mask[p.window].mean() >= 0.7 and mask[p.window].shape == (p.height, p.width) for p in patches)
    assert min(p.column for p in patches) < 120  # not only where all is soft tissue


def test_draw_gives_up():
    """A slice without soft tissue gives no patch, and does not take for ever."""
    assert sample_patches(~FULL, 40, True, rng()) == sample_patches(~FULL, 40, False, rng()) == []


def test_margin_by_hand():
    """A margin of 16 adds 16 pixels on each side at native scale: the patch is in the middle."""
    image = rng().normal(size=(400, 420)).astype(np.float32)
    (with_margin,) = cut(image, Patch(50, 60, 256, 256), 16)
    np.testing.assert_array_equal(with_margin, image[34:322, 44:332])
    np.testing.assert_array_equal(cut(image, Patch(50, 60, 256, 256), 0)[0], image[50:306, 60:316])


@pytest.mark.parametrize(("corner", "start"), [((0, 5), (0, 0)), ((144, 164), (112, 132)), ((10, 150), (0, 132))])
def test_margin_moves_inside_at_the_border(corner, start):
    """Near the border the window is moved inside the slice: all its pixels are the slice's own."""
    image = rng().normal(size=(400, 420)).astype(np.float32)
    (found,) = cut(image, Patch(*corner, 256, 256), 16)
    np.testing.assert_array_equal(found, image[start[0] : start[0] + 288, start[1] : start[1] + 288])


def test_margin_of_a_small_slice_is_reflected():
    """A slice of 256 x 270 pixels is continued by reflection to 288, once and nowhere else."""
    image = rng().normal(size=(256, 270)).astype(np.float32)
    (found,) = cut(image, Patch(0, 14, 256, 256), 16)
    np.testing.assert_array_equal(found[:256, :270], image)
    np.testing.assert_array_equal(found[256:, :270], image[:-33:-1])
    np.testing.assert_array_equal(found[:256, 270:], image[:, :-19:-1])


def test_margin_at_the_scale_of_the_patch():
    """A patch of 128 pixels has 8 pixels around it, which become 16: on a ramp both ends lie 8 pixels further out."""
    ramp = np.broadcast_to(np.arange(400, dtype=np.float32), (400, 400))
    (plain,), (wide,) = (cut(ramp, Patch(100, 150, 128, 128), margin) for margin in (0, 16))
    assert (plain.shape, wide.shape) == ((256, 256), (288, 288))
    np.testing.assert_allclose(plain[5, 8:-8], 150 + (np.arange(8, 248) + 0.5) / 2 - 0.5, atol=0.06)
    np.testing.assert_allclose(wide[5, 16:272], 150 + (np.arange(256) + 0.5) / 2 - 0.5, atol=0.06)


@given(st.integers(0, 200), st.lists(st.integers(0, 40), max_size=12))
def test_distribute_is_even(total, rooms):
    """All is shared out if there is capacity; nobody gets more than there is capacity for, nor two less than who gets most."""
    shares = distribute(total, rooms)
    assert sum(shares) == min(total, sum(rooms))
    assert all(0 <= share <= limit for share, limit in zip(shares, rooms, strict=True))
    for share, limit in zip(shares, rooms, strict=True):
        assert share == limit or share >= max(shares) - 1


def test_distribute_by_hand():
    """The others make up for one without capacity; the rest does not all go to the first."""
    assert distribute(10, [1, 9, 9]) == [1, 4, 5]
    assert distribute(49000, [10**6] * 240) == ([204] * 5 + [205]) * 40
    assert distribute(2, [5, 5, 5, 5]) == [0, 1, 0, 1]
