"""Pixels that were damaged on the way, and files that hold more than their headers say."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless
from synthetic import random_stored, write_ct

from stan_ct.dicom import pixels
from stan_ct.dicom.amount import rle_lengths
from stan_ct.dicom.damage import (
    ISOLATED,
    LONG_RUN,
    LOWEST,
    ODD,
    SCATTER_FLOOR,
    constant_run,
    damaged_pixels,
    isolated_pixels,
    odd_slices,
)
from stan_ct.dicom.find import find_series
from stan_ct.dicom.pixels import decode
from stan_ct.dicom.refusal import Refused
from stan_ct.dicom.series import load_series
from stan_ct.reconstruction.source_checks import check_source_slice, source_slice_findings

NOTHING = np.zeros((64, 64), bool)


def tissue(noise: float = 20.0, shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    """Soft tissue of 40 HU with white noise, HU."""
    return np.random.default_rng(0).normal(40, noise, shape).astype(np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_isolated_pixels(sign):
    """Equal tissue has no scatter but the floor: a pixel just inside the limit is no spike, one just outside it is."""
    hu = np.full((64, 64), 40, np.float32)
    for excess, expected in ((ISOLATED * SCATTER_FLOOR - 1, []), (ISOLATED * SCATTER_FLOOR + 1, [[20, 30]])):
        hu[20, 30] = 40 + sign * excess
        assert np.argwhere(isolated_pixels(hu, NOTHING)).tolist() == expected
    assert damaged_pixels(hu, NOTHING) == "1 pixel far from all neighbours"
    hu[20, 31] = hu[20, 30]  # two beside each other are a structure
    assert not isolated_pixels(hu, NOTHING).any()


def test_noise_is_not_damaged_and_hides_what_is_within_it():
    """The limit follows the slice's own scatter, about 2.5 standard deviations of white noise."""
    hu = tissue(noise=100)
    assert damaged_pixels(hu, NOTHING) == ""
    hu[20, 30] += 1000
    assert damaged_pixels(hu, NOTHING) == ""
    hu[20, 30] += 1500
    assert damaged_pixels(hu, NOTHING) == "1 pixel far from all neighbours"


def test_padding_and_its_neighbours_are_no_spikes():
    """The tip of a field of view has padding on all sides; it is declared or not."""
    padding = np.ones((64, 64), bool)
    padding[10:50, 10:50] = padding[9, 30] = False
    for declared in (padding, NOTHING):
        assert damaged_pixels(np.where(padding, -2000, tissue()), declared) == ""


@pytest.mark.parametrize(("depth", "expected"), [(1, ""), (-1, "3 pixels below -3100 HU")])
def test_lowest(depth, expected):
    """Values that no tissue has, one beside the other, are damaged; an area of them is what lies outside the field of view."""
    hu = tissue()
    hu[20, 30:33] = LOWEST + depth
    assert damaged_pixels(hu, NOTHING) == expected
    hu = tissue()
    hu[:10] = -8192
    assert damaged_pixels(hu, NOTHING) == ""


@pytest.mark.parametrize(("length", "start"), [(LONG_RUN, 1290), (LONG_RUN - 1, 1290), (200, 1280), (64, 1280)])
def test_constant_run(length, start):
    """From `LONG_RUN` on a run is found, wherever it starts; whole rows are an area of padding."""
    hu = tissue()
    hu.flat[start : start + length] = -1024
    expected = 0 if length < LONG_RUN or (start % 64 == 0 and length % 64 == 0) else length
    assert constant_run(hu, NOTHING) == expected
    assert damaged_pixels(hu, NOTHING) == (f"{length} pixels of one value in a row" if expected else "")
    assert constant_run(hu, hu == -1024) == 0


def test_areas_of_one_value_are_no_runs():
    """Air and phantoms without noise."""
    hu = tissue()
    hu[10:30, 5:60] = hu[40, :20] = -1000
    assert constant_run(hu, NOTHING) == 0


@pytest.mark.parametrize("z", [0, 1, 3, 4])
def test_odd_slices(z):
    """A slice of another rescale is odd, at the ends too; the slices beside it are not."""
    volume = tissue(shape=(5, 64, 64))
    assert odd_slices(volume, range(5)) == {}
    between = np.sqrt(2) * 20 + 10  # HU, noise of two slices and the floor
    for ratio, expected in ((ODD - 0.1, []), (ODD + 0.1, [z])):
        odd = volume.copy()
        odd[z] += np.sqrt((ratio * between) ** 2 - 800)
        assert list(odd_slices(odd, range(5))) == expected
    locations = np.arange(5.0)
    locations[1:] += 0.6  # the first step is 1.6 times the others: anatomy may change there
    assert list(odd_slices(odd, locations)) == ([z] if z > 1 else [])


def test_findings_of_a_damaged_series(tmp_path):
    """A flipped bit and another intercept in one slice each are findings of these slices."""
    stored = (1064 + tissue(shape=(4, 64, 64))).astype(int)
    stored[1, 20, 30] ^= 1 << 11
    write_ct(tmp_path, stored, edit=lambda ds, z: setattr(ds, "RescaleIntercept", "0" if z == 3 else "-1024"))
    series = load_series(find_series(tmp_path).series[0])
    found = source_slice_findings(series, [check_source_slice(series, z) for z in range(4)])
    assert [[f.name for f in findings] for findings in found] == [[], ["damaged_pixels"], [], ["odd_slice"]]


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize("length", [1, 2, 9, 40])
def test_bytes_after_the_pixels(tmp_path, syntax, length):
    """Bytes that were inserted push the last pixels out of the element: what follows it is no element."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)) | 0x101, syntax=syntax)
    data = path.read_bytes()
    assert decode(data)[1].shape == (8, 6)
    with pytest.raises(Refused, match=r"excess_bytes|unreadable"):
        decode(data[:-50] + b"\1" * length + data[-50:])


def test_padding_after_the_pixels(tmp_path):
    """Data Set Trailing Padding, private elements and less than a row too much in the pixels are lawful; a row is not."""

    def add(ds, z):
        ds.add_new(0x7FE10010, "LO", "VENDOR")
        ds.add_new(0xFFFCFFFC, "OB", b"\1\2")

    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)), edit=add)
    assert decode(path.read_bytes())[1].shape == (8, 6)
    dataset = pydicom.dcmread(path)
    for excess, fails in ((10, False), (12, True)):
        dataset.PixelData = bytes(96 + excess)
        file = io.BytesIO()
        dataset.save_as(file)
        if fails:
            with pytest.raises(Refused, match="excess_bytes: 12 bytes of pixels beyond 8 x 6"):
                decode(file.getvalue())
        else:
            decode(file.getvalue())


def test_rle_lengths():
    """Literal and replicated runs, a header that does nothing, and the byte that makes a segment even."""
    segment = bytes([2, 7, 8, 9, 256 - 4, 5, 128, 0, 3])  # 3 literal bytes, 5 replicated ones, nothing, one
    frame = (2).to_bytes(4, "little") + (64).to_bytes(4, "little") + (64 + 9).to_bytes(4, "little") + bytes(52)
    assert rle_lengths(frame + segment + bytes([255, 1, 0])) == [9, 2]


def test_rle_of_other_columns_is_refused(tmp_path):
    """Fewer columns than were compressed would shear the image."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)), syntax="RLE")
    dataset = pydicom.dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == RLELossless
    dataset.Columns = 5
    dataset.save_as(path)
    with pytest.raises(Refused, match="undecodable: RLE Lossless: a segment of 48 bytes, not 40"):
        decode(path.read_bytes())


@pytest.mark.parametrize("name", ["PanicException", "Terminated"])
def test_a_panic_is_a_refusal_and_a_signal_is_not(tmp_path, monkeypatch, name):
    """Decoders written in Rust panic with what is no `Exception`; neither is what ends a run."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    raised = type(name, (BaseException,), {})

    def fail(*_):
        raise raised

    monkeypatch.setattr(pixels, "_decoded", fail)
    with pytest.raises(Refused if name == "PanicException" else raised):
        decode(path.read_bytes())


def test_an_element_that_comes_twice_is_refused(tmp_path):
    """Readers differ in which of the two they believe."""
    (path,) = write_ct(tmp_path, random_stored((1, 8, 6)))
    data, element = path.read_bytes(), b"\x28\0\x52\x10DS\6\0-1024 "
    assert element in data
    path.write_bytes(data.replace(element, element + element.replace(b"-1024", b"-1000")))
    (refusal,) = find_series(tmp_path).refusals
    assert (refusal.reason, refusal.found) == ("unreadable", "RescaleIntercept comes twice, so its value is not certain")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_decodes_with_a_process_of_its_own(real_ct):
    """A host may decode and fork, as data loaders do: the fork must not wait for a pool that stayed behind."""
    data = (real_ct / "odd/robyoung__CT1_JPLL").read_bytes()
    program = (
        "import os, sys, zlib; from stan_ct.dicom.pixels import decode\n"
        "if __name__ == '__main__':\n"
        "    data = sys.stdin.buffer.read(); first = zlib.crc32(decode(data)[1]); child = os.fork()\n"
        "    if not child: os._exit(0 if zlib.crc32(decode(data)[1]) == first else 1)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
