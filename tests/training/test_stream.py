"""A position in the stream is all that a run needs to see the same batches again."""

import numpy as np
import pytest
import tensorflow as tf

from stan_ct.ct.hounsfield import HUWindow
from stan_ct.training.stream import Stream

WINDOW = HUWindow()


def stream(folder, batch=2, seed=0, position=0):
    return Stream(tf.distribute.get_strategy(), folder, WINDOW, batch, seed, position)


def batches(stream, number):
    """The next (source, target) of a stream, as arrays."""
    return [tuple(np.asarray(half) for half in next(stream)) for _ in range(number)]


def numbers(batch):
    """Which records a batch holds."""
    return [int(n) for n in np.rint(WINDOW.to_hu(batch[0][:, 0, 0, 0]) / 10)]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.fixture(scope="module")
def whole(numbered):
    """The first ten batches of two: three to an epoch."""
    return batches(stream(numbered), 10)


def test_equal_seeds(numbered, whole):
    """Equal seeds give equal batches, crops and turns included; another seed gives others."""
    assert_equal(batches(stream(numbered), 4), whole[:4])
    other = batches(stream(numbered, seed=1), 4)
    assert [numbers(b) for b in other] != [numbers(b) for b in whole[:4]]
    assert not any(np.array_equal(a[1], b[1]) for a, b in zip(other, whole[:4], strict=True))


@pytest.mark.parametrize("position", range(1, 8))
def test_position(numbered, whole, position):
    """A stream that starts at a position gives what one from the start gives there, within an epoch and across its end."""
    later = stream(numbered, position=position)
    assert_equal(batches(later, 3), whole[position : position + 3])
    assert later.position == position + 3


def test_epochs(numbered, whole):
    """An epoch gives no patch twice; the order, and where a patch is cut, differ from epoch to epoch."""
    epochs = [whole[i : i + 3] for i in (0, 3, 6)]
    seen = [[n for batch in epoch for n in numbers(batch)] for epoch in epochs]
    assert [len(set(epoch)) for epoch in seen] == [6, 6, 6]  # of seven: the last batch would not be full
    assert len({tuple(epoch) for epoch in seen}) == 3
    cut = {}
    for source, target in whole[:9]:
        for n, patch in zip(numbers((source, target)), target, strict=True):
            cut.setdefault(n, set()).add(patch.tobytes())
    assert max(map(len, cut.values())) == 3


def test_epoch_covers_all(numbered):
    """Where batches come out even, an epoch holds every patch once."""
    (epoch,) = batches(stream(numbered, batch=7), 1)
    assert sorted(numbers(epoch)) == [0, 1, 2, 3, 4, 5, 6]
    assert stream(numbered, batch=7).epoch_batches == 1
    assert stream(numbered).epoch_batches == 3


def test_batch_larger_than_the_records(numbered):
    """A batch that is larger than an epoch is filled from the next pass, and is an epoch."""
    large = stream(numbered, batch=9)
    first, second = batches(large, 2)
    assert (large.epoch_batches, len(first[0]), len(second[0])) == (1, 9, 9)
    assert set(numbers(first)) == {0, 1, 2, 3, 4, 5, 6}
    assert_equal(batches(stream(numbered, batch=9, position=1), 1), [second])
