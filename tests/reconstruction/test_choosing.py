"""Which series are standardized: conditions on any header field, the newest of duplicates, a limit."""

import pytest
from pydicom.dataset import Dataset
from synthetic import random_stored, write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import UsageError
from stan_ct.reconstruction.choosing import Choice


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Series 1 to 4 of kernels B, B, L and L at 80, 100, 120 and 140 kV; that of 100 kV is of a tilted gantry."""
    root = tmp_path_factory.mktemp("series")
    for number, kernel, kv in ((1, "B", 80), (2, "B", 100), (3, "L", 120), (4, "L", 140)):

        def edit(dataset: Dataset, z: int, kv: int = kv) -> None:
            dataset.KVP = kv
            dataset.add_new(0x00531042, "LO", f"private {kv}")

        tilt = 10.0 if kv == 100 else 0.0
        write_ct(root / str(number), random_stored((2, 8, 6)), series=number, kernel=kernel, tilt=tilt, edit=edit)
    return find_series(root).series


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), [1, 2, 3, 4]),
        (("ConvolutionKernel=B",), (), [1, 2]),
        (("ConvolutionKernel~^[A-C]$",), (), [1, 2]),
        (("KVP>=100,KVP<=120",), (), [2, 3]),
        (("KVP>=100,ConvolutionKernel=L",), (), [3, 4]),
        (("KVP<100", "KVP>120"), (), [1, 4]),
        (("(0053,1042)~120",), (), [3]),
        ((), ("KVP=80",), [2, 3, 4]),
        ((), ("KVP=80", "ConvolutionKernel=L,KVP>120"), [2, 3]),
        (("ConvolutionKernel=L",), ("KVP>=140",), [3]),
        (("Exposure>1",), (), []),
    ],
)
def test_conditions(series, include, exclude, expected):
    """Conditions joined by commas must all hold; of several texts one suffices; what is excluded is left out."""
    assert [files.number for files in Choice(include, exclude).of(series)] == expected


def test_a_limit_takes_the_first(series):
    """At most as many as asked for; 0 stands for all."""
    assert [[files.number for files in Choice(limit=limit).of(series)] for limit in (0, 1, 3, 9)] == [
        *([1, 2, 3, 4], [1], [1, 2, 3], [1, 2, 3, 4]),
    ]


def test_no_condition_is_refused_with_the_flag():
    """A text that is none, or names no field, is refused, whatever was found."""
    with pytest.raises(UsageError, match="--exclude expects conditions"):
        Choice(exclude=("soft",)).of([])
    with pytest.raises(UsageError, match="did you mean ConvolutionKernel"):
        Choice(include=("ConvolutionKernl=B",)).of([])


def test_of_duplicates_the_newest_is_chosen(tmp_path):
    """A series that was made anew later replaces the former; other kernels, positions, times and studies are no duplicates."""

    def write(number: int, date: str, kernel: str = "B", **values: object) -> None:
        def edit(dataset: Dataset, z: int) -> None:
            dataset.SeriesDate, dataset.SeriesTime, dataset.SeriesDescription = date, "120000", "Thorax"
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

        write_ct(tmp_path / str(number), random_stored((2, 8, 6)), series=number, kernel=kernel, edit=edit)

    write(1, "20200101")
    write(2, "20200103")
    write(3, "20200102")
    write(4, "20200101", kernel="L")
    write(5, "20200101", AcquisitionTime="101010")
    write(6, "20200101", StudyInstanceUID="1.2.3")
    write(7, "20200103")
    found = find_series(tmp_path).series
    assert sorted(files.number for files in Choice(newest=True).of(found)) == [4, 5, 6, 7]
    assert len(Choice().of(found)) == 7


def newest(root, series) -> list[int]:
    """Numbers of the series that are left of some, each (dates of its two slices, thickness, shift of its positions)."""
    for number, (dates, thickness, shift) in enumerate(series, 1):

        def edit(dataset: Dataset, z: int, dates=dates, thickness=thickness, shift=shift) -> None:
            dataset.SeriesDate = dates[z]
            dataset.SliceThickness = thickness
            dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], 40.0 + z + shift]

        with tolerant():  # pydicom's opinion of dates with points
            write_ct(root / str(number), random_stored((2, 8, 6)), series=number, edit=edit)
    return sorted(files.number for files in Choice(newest=True).of(find_series(root).series))


def test_every_slice_tells_the_age_of_a_series(tmp_path):
    """A date that the first slice lacks, or writes with points, counts; an older one in points does not."""
    assert newest(tmp_path / "lacking", [(["", "20200102"], "1", 0), (["20200101"] * 2, "1", 0)]) == [1]
    assert newest(tmp_path / "points", [(["2020.01.02"] * 2, "1", 0), (["20200101"] * 2, "1", 0)]) == [1]
    assert newest(tmp_path / "older", [(["2020.01.02"] * 2, "1", 0), (["20200103"] * 2, "1", 0)]) == [2]


def test_duplicates_are_alike_within_the_tolerances_of_positions_and_thicknesses(tmp_path):
    """Values that another header rounds otherwise are of the same slices; those beyond the tolerances are not."""
    day = ["20200101"] * 2
    assert newest(tmp_path / "positions", [(day, "1", -0.0501), (day, "1", -0.0499)]) == [2]
    assert newest(tmp_path / "thicknesses", [(day, "1", 0), (day, "1.00001", 0)]) == [2]
    assert newest(tmp_path / "moved", [(day, "1", 0), (day, "1", 0.2)]) == [1, 2]
    assert newest(tmp_path / "thicker", [(day, "1", 0), (day, "1.1", 0)]) == [1, 2]
