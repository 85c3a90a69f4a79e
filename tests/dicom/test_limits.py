"""Files that would fill memory are refused before they do: deflated ones, compressed images, elements, nested sequences."""

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1
from synthetic import random_stored, write_ct

from stan_ct.dicom import limits
from stan_ct.dicom.find import find_series
from stan_ct.dicom.limits import check_stream, stream_sizes
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
PEAK = """
import json, resource, sys
from stan_ct.dicom.find import find_series
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = find_series(sys.argv[1])
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([grown / 1024, [[r.reason, r.found] for r in found.refusals], len(found.series)]))
"""


def one_slice(folder, **options):
    """A file with one slice."""
    return write_ct(folder, random_stored((1, SIDE, SIDE)), **options)[0]


def deflated(path, zeros):
    """Makes a file's data set end with so many zeros, deflated."""
    data = path.read_bytes()
    start = 144 + struct.unpack_from("<L", data, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    inner = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    body = packer.compress(inner) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)) + packer.flush()
    path.write_bytes(data[:start] + body)


def look(folder):
    """Memory that a search takes, MB, the refusals and the number of series, of a process of its own."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def test_a_deflate_bomb_takes_no_memory(tmp_path):
    """A file of 400 KB that inflates to 400 MB is refused without that memory."""
    path = one_slice(tmp_path, syntax="deflated")
    deflated(path, 400 << 20)
    assert path.stat().st_size < 500_000
    grown, refusals, series = look(tmp_path)
    assert (series, [reason for reason, _ in refusals]) == (0, ["unreadable"])
    assert "inflates to more than" in refusals[0][1]
    assert grown < 100


def test_deflated_files_up_to_the_limit_are_read(tmp_path, monkeypatch):
    """The limit is that of inflated bytes: one more is refused, in the header and in the pixels alike."""
    path = one_slice(tmp_path, syntax="deflated")
    data = path.read_bytes()
    start = 144 + struct.unpack_from("<L", data, 140)[0]
    length = len(zlib.decompress(data[start:], -zlib.MAX_WBITS))
    monkeypatch.setattr(limits, "LARGEST_FILE", length)
    assert load_series(find_series(tmp_path).series[0]).volume.shape == (1, SIDE, SIDE)
    monkeypatch.setattr(limits, "LARGEST_FILE", length - 1)
    assert [r.reason for r in find_series(tmp_path).refusals] == ["unreadable"]
    with pytest.raises(Refused, match="inflates to more than"):
        decode(data)


def test_files_longer_than_any_slice_are_refused(tmp_path, monkeypatch):
    """A file that is one byte too long is not read into memory; one as long as the limit is."""
    path = one_slice(tmp_path)
    files = find_series(tmp_path).series[0]
    monkeypatch.setattr(limits, "LARGEST_FILE", path.stat().st_size)
    load_series(files)
    monkeypatch.setattr(limits, "LARGEST_FILE", path.stat().st_size - 1)
    with pytest.raises(Refused, match="excess_bytes"):
        load_series(files)


def test_reading_takes_memory_for_the_file_alone(tmp_path):
    """Less than twice its length, not that of the longest file that is read."""
    (tmp_path / "file").write_bytes(bytes(100_000))
    tracemalloc.start()
    assert len(limits.read_bounded(tmp_path / "file")) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_huge_element_of_an_odd_file_is_refused(tmp_path):
    """A header that pydicom must read, with an element of 3 GB in a file that holds them (as a hole), is not read."""
    path = one_slice(tmp_path, syntax="big endian")
    data = path.read_bytes()
    place = data.index(b"\0\x10\0\x10")  # Patient Name, before which comes Other Patient Data, of 3 GB
    path.write_bytes(data[:place] + struct.pack(">HH2sxxL", 0x0009, 0x1001, b"OB", 3 << 30))
    with open(path, "ab") as file:
        file.truncate(path.stat().st_size + (3 << 30))
    grown, refusals, _ = look(tmp_path)
    assert [reason for reason, _ in refusals] == ["unreadable"]
    assert grown < 100


@pytest.mark.parametrize("depth", [10, 200_000])
def test_deeply_nested_sequences(tmp_path, depth):
    """Ten sequences in each other are nothing special; 200,000 are refused, and nothing crashes."""
    path = one_slice(tmp_path)
    data = path.read_bytes()
    place = data.index(b"\x10\0\x10\0")
    opened = struct.pack("<HH2sxxLHHL", 0x0008, 0x1115, b"SQ", 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * depth
    closed = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth
    path.write_bytes(data[:place] + opened + closed + data[place:])
    found = find_series(tmp_path)
    assert (found.slices, [r.reason for r in found.refusals]) == ((1, []) if depth == 10 else (0, ["unreadable"]))


@pytest.mark.parametrize("side", [65535, 8193])
def test_headers_of_huge_images(tmp_path, side):
    """65,535 x 65,535 pixels are refused by the header, whatever the file holds."""
    one_slice(tmp_path, edit=lambda ds, z: (setattr(ds, "Rows", side), setattr(ds, "Columns", side)))
    found = find_series(tmp_path)
    assert (found.slices, [r.reason for r in found.refusals]) in [(0, ["no_geometry"]), (0, ["truncated"])]


@pytest.mark.parametrize("frames", ["2", "2147483647", "-1", "1e99"])
def test_absurd_numbers_of_frames(tmp_path, frames):
    """A slice is one frame."""
    one_slice(tmp_path)
    path = tmp_path / "0.dcm"
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = "7" * len(frames + " " * (len(frames) % 2))
    dataset.save_as(path)
    value = frames + " " * (len(frames) % 2)
    path.write_bytes(path.read_bytes().replace(b"7" * len(value), value.encode()))
    assert [r.reason for r in find_series(tmp_path).refusals] in [["multi_frame"], ["unreadable"]]


def stream_of(path):
    """The compressed image of a file."""
    dataset = pydicom.dcmread(path)
    return dataset, next(generate_frames(dataset.PixelData, number_of_frames=1))


@pytest.mark.parametrize(
    ("syntax", "old", "new"),
    [
        ("JPEG 2000", struct.pack(">LL", SIDE, SIDE), struct.pack(">LL", 60000, 60000)),
        ("JPEG-LS", struct.pack(">HH", SIDE, SIDE), struct.pack(">HH", 60000, 60000)),
    ],
)
def test_compressed_images_that_say_they_are_huge(tmp_path, syntax, old, new):
    """The size in the stream is compared with the header's before a decoder sees it; a stream as it was passes."""
    path = one_slice(tmp_path, syntax=syntax)
    decode(path.read_bytes())
    dataset, stream = stream_of(path)
    assert stream_sizes(stream) == [(SIDE, SIDE, 1)]
    huge = stream.replace(old, new, 1)
    assert stream_sizes(huge) == [(60000, 60000, 1)]
    dataset.PixelData = encapsulate([huge])
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(Refused, match=r"undecodable: .*60000 x 60000 pixels"):
        decode(file.getvalue())


def test_lossless_jpeg_that_says_it_is_huge(tmp_path):
    """The same of JPEG, after comments and fill bytes; samples count too, and boxes around JPEG 2000 hide nothing."""
    head = b"\xff\xd8\xff\xfe\x00\x04ab\xff\xff\xc3\x00\x0b\x10" + struct.pack(">HHB", 60000, 3, 1) + b"\x01\x11\0"
    assert stream_sizes(head) == [(60000, 3, 1)]
    with pytest.raises(Refused, match="60000 x 3"):
        check_stream(head, 3, 3)
    check_stream(head, 60000, 3)
    size = b"\xff\x4f\xff\x51\x00\x29\0\0" + struct.pack(">8LH", 3, 4, 0, 0, 3, 4, 0, 0, 16384)
    with pytest.raises(Refused, match=r"4 x 3 pixels of 16384 sample"):
        check_stream(size, 4, 3)
    assert len(stream_sizes(b"\0\0\0\x0cjP  " + size + size)) == 2
    assert stream_sizes(head[:8]) == stream_sizes(b"") == []
    path = one_slice(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID, dataset.PixelData = JPEGLosslessSV1, encapsulate([head])
    dataset.save_as(path)
    with pytest.raises(Refused, match="60000 x 3 pixels"):
        decode(path.read_bytes())
