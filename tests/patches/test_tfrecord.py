"""TFRecord files written without TensorFlow."""

import os

import numpy as np
import pytest
import tensorflow as tf

from stan_ct.patches.tfrecord import read_records, record_bytes, record_length, write_records


@pytest.mark.parametrize("side", [1, 5, 64, 255, 256, 288])
def test_bytes_are_tensorflows(tmp_path, side):
    """A record is byte for byte what TensorFlow writes."""
    pair = np.random.default_rng(side).integers(-(2**15), 2**15, (2, side, side)).astype(np.int16)
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[pair.astype("<i2").tobytes()]))
    example = tf.train.Example(features=tf.train.Features(feature={"patches": feature})).SerializeToString()
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(example)
    assert record_bytes(pair) == (tmp_path / "theirs").read_bytes()
    assert record_length(side) == len(record_bytes(pair))


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    """Records that break off leave the file of before alone, or none, and nothing else; complete ones replace it."""
    path = tmp_path / "train-a.1.tfrecord"
    pair = np.ones((2, 8, 8), np.int16)

    def broken():
        yield pair
        (partial,) = tmp_path.glob("*.partial")
        assert partial.name == f"train-a.1.tfrecord.{os.getpid()}.partial"  # this process's own
        assert not path.exists() or path.read_bytes() == before
        raise OSError("disk full")

    before = b""
    with pytest.raises(OSError, match="disk full"):
        write_records(path, broken())
    assert list(tmp_path.iterdir()) == []
    assert write_records(path, iter([pair])) == 1
    before = path.read_bytes()
    assert before == record_bytes(pair)
    with pytest.raises(OSError, match="disk full"):
        write_records(path, broken())
    assert path.read_bytes() == before
    assert write_records(path, iter([pair, 2 * pair])) == 2
    assert path.read_bytes() == before + record_bytes(2 * pair)
    assert list(tmp_path.iterdir()) == [path]


def test_no_records_leave_no_file(tmp_path):
    """A file without records would be mistaken for a complete one."""
    assert write_records(tmp_path / "a.tfrecord", iter([])) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("images", "side"), [(2, 3), (3, 256), (1, 1)])
def test_reading(tmp_path, images, side):
    """What is written is read back, any record at a time; records of another shape are refused."""
    examples = np.random.default_rng(0).integers(-2000, 3000, (4, images, side, side)).astype(np.int16)
    write_records(tmp_path / "a.tfrecord", iter(examples))
    read = read_records(tmp_path / "a.tfrecord", images, side)
    np.testing.assert_array_equal(read, examples)
    np.testing.assert_array_equal(read[2], examples[2])
    with pytest.raises(ValueError, match=r"holds no records of 5 patches of 7 pixels"):
        read_records(tmp_path / "a.tfrecord", 5, 7)
