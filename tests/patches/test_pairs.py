"""Pairing two reconstructions of one scan, and keeping training and validation apart."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from synthetic import random_stored, write_ct

from stan_ct.ct.series import Instance, SeriesFiles, find_series
from stan_ct.patches.pairs import PairingError, SeriesPair, held_back, pair_series, pair_slices


def at(*locations: float | tuple[float, float, float]) -> list[Instance]:
    """Instances along z, or at positions."""
    found = []
    for n, location in enumerate(locations):
        header = Dataset()
        header.ImagePositionPatient = list(location) if isinstance(location, tuple) else [0, 0, location]
        found.append(Instance(Path(f"{n}.dcm"), header))
    return found


def patient_pair(patient: str, slices: int) -> SeriesPair:
    """A pair of one patient of which only patient and number of slices matter."""
    instances = at(*range(0, 5 * slices, 5))
    for instance in instances:
        instance.header.PatientID, instance.header.StudyInstanceUID = patient, f"1.{abs(hash(patient))}"
        instance.header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    files = SeriesFiles(tuple(instances))
    return SeriesPair(files, files, tuple((z, z) for z in range(slices)))


def test_pairs_by_position():
    """Slices pair where their positions agree, whatever their number in the series: 5, 10 and 20 mm of 0..20."""
    assert pair_slices(at(5, 10, 12, 20), at(0, 5, 10, 15, 20)) == ((0, 1), (1, 2), (3, 4))


def test_pairs_need_all_three_coordinates():
    """A shift of 0.2 mm in any direction is another place, one of 0.05 mm the same."""
    for axis in range(3):
        for shift, expected in ((0.2, ()), (0.05, ((0, 0),))):
            moved = tuple(shift if i == axis else 0.0 for i in range(3))
            assert pair_slices(at((0, 0, 0)), at(moved)) == expected


def test_positions_that_occur_twice_pair_with_nothing():
    """Twice among the targets or among the sources: nobody knows which is meant, so neither is used."""
    assert pair_slices(at(0, 5), at(0, 5, 5)) == ((0, 0),)
    assert pair_slices(at(0, 5, 5), at(0, 5)) == ((0, 0),)


def test_nothing_in_common_pairs_nothing():
    """No slices on either side, or none at common positions, is no error here."""
    assert pair_slices([], at(0, 5)) == ()
    assert pair_slices(at(0, 5), []) == ()
    assert pair_slices(at(0, 5), at(2.5, 7.5)) == ()


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_order_does_not_matter(ours, theirs):
    """Each slice finds the one at its own place, in the order of the sources."""
    pairs = pair_slices(at(*(5.0 * k for k in ours)), at(*(5.0 * k for k in theirs)))
    assert [s for s, _ in pairs] == list(range(6))
    assert [theirs[t] for _, t in pairs] == list(ours)


def write_study(folder: Path, **target) -> list[SeriesFiles]:
    """A soft series 3 of 4 slices and a sharp series 4 that `target` describes."""
    write_ct(folder / "soft", random_stored((4, 8, 6)), kernel="B")
    write_ct(folder / "sharp", target.pop("stored", random_stored((4, 8, 6))), series=4, kernel="L", **target)
    return find_series(folder).series


def test_series_pair_by_kernel(tmp_path):
    """Source and target are the series of the kernels asked for; asked the other way round they change places."""
    series = write_study(tmp_path)
    (pair,) = pair_series(series, "B", "L")
    assert (pair.source.kernel, pair.target.kernel) == ("B", "L")
    assert pair.slices == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert pair_series(series, "L", "B")[0].source.kernel == "L"


@pytest.mark.parametrize(
    "target",
    [
        {"stored": random_stored((4, 8, 7))},
        {"spacing": (0.8, 0.8)},
        {"edit": lambda ds, z: setattr(ds, "StudyInstanceUID", "1.2.3")},
        {"edit": lambda ds, z: setattr(ds, "ImagePositionPatient", ["-100", "-90.5", str(1000 + z)])},
        {"edit": lambda ds, z: setattr(ds, "ConvolutionKernel", "YA")},
    ],
    ids=["matrix", "spacing", "study", "positions", "kernel"],
)
def test_what_does_not_match_does_not_pair(tmp_path, target):
    """Another matrix, spacing, study, place or kernel gives an error that names kernels asked for, found, and flags."""
    series = write_study(tmp_path, **target)
    with pytest.raises(PairingError, match=r"'B' and one of 'L'.*kernels found: B, (L|YA)\..*--source_kernel"):
        pair_series(series, "B", "L")


def test_no_series_at_all():
    """Nothing found is said as such."""
    with pytest.raises(PairingError, match="kernels found: none"):
        pair_series([], "B", "L")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.floats(0, 1), st.integers(0, 99))
def test_patient_split_is_disjoint(sizes, fraction, seed):
    """Two pairs of one patient go the same way whole; at least one patient trains, at least one validates."""
    pairs = [patient_pair(f"P{n}", size) for n, size in enumerate(sizes)] + [patient_pair("P0", 5)]
    held = held_back(pairs, "patient", fraction, block=1, seed=seed)
    everything = {(i, k) for i, pair in enumerate(pairs) for k in range(len(pair.slices))}
    patients = {pairs[i].source.patient for i, _ in held}
    assert held <= everything
    assert patients.isdisjoint(pairs[i].source.patient for i, _ in everything - held)
    assert 1 <= len(patients) <= len(sizes) - 1
    assert len(patients) == np.clip(round(len(sizes) * fraction), 1, len(sizes) - 1)


def test_patient_split_follows_the_seed():
    """One seed holds back the same patients, in any order of the pairs; seeds differ."""
    pairs = [patient_pair(f"P{n}", 2) for n in range(10)]

    def chosen(order: list[SeriesPair], seed: int) -> set[str]:
        return {order[i].source.patient for i, _ in held_back(order, "patient", 0.3, 1, seed)}

    assert chosen(pairs, 1) == chosen(pairs[::-1], 1)
    assert len(chosen(pairs, 1)) == 3
    assert len({frozenset(chosen(pairs, seed)) for seed in range(10)}) > 5


def test_blocks_split_is_every_third_block():
    """In blocks of 2 the slices 4, 5 and 10, 11 are held back; the same places in every pair of the study."""
    pairs = [patient_pair("P0", 12), patient_pair("P0", 5)]
    assert held_back(pairs, "blocks", 0.9, block=2, seed=7) == {(0, 4), (0, 5), (0, 10), (0, 11), (1, 4)}


def test_blocks_of_series_with_other_spacing_hold_back_the_same_places():
    """A series with every second slice of another is split at the same places, so nothing leaks from one to the other."""
    whole, every_second = patient_pair("P0", 12), patient_pair("P0", 12)
    thin = SeriesFiles(every_second.source.instances[::2])
    pairs = [whole, SeriesPair(thin, thin, tuple((z, z) for z in range(6)))]
    held = held_back(pairs, "blocks", 0.9, block=2, seed=7)
    assert {k for i, k in held if i == 0} == {4, 5, 10, 11}
    assert {2 * k for i, k in held if i == 1} == {4, 10}


def test_one_patient_cannot_be_split_by_patient():
    """The error names what came and the way out."""
    with pytest.raises(PairingError, match=r"at least two patients, found one.*--split=blocks"):
        held_back([patient_pair("P0", 9), patient_pair("P0", 9)], "patient", 0.2, 8, 0)


def test_real_kernels_pair_slice_by_slice(real_ct):
    """The Philips chest gives 36 pairs in order; the phantom's 5 mm series of the same kernel pairs with nothing of 1 mm."""
    (pair,) = pair_series(find_series(real_ct / "pair_philips_5mm").series, "B", "L")
    assert pair.slices == tuple((z, z) for z in range(36))
    (thin,) = pair_series(find_series(real_ct / "phantom_philips").series, "UB", "YA")
    assert thin.slices == tuple((z, z) for z in range(8))
    assert thin.source.slice_thickness == 1.0
