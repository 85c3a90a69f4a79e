"""Conditions on header fields: how they are written, when they hold, and the protocols that they tell apart."""

from pathlib import Path

import pydicom
import pytest
from paired_series import place, records, settings, volume, write_pair, write_series
from pydicom.dataset import Dataset

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import Instance, SeriesFiles
from stan_ct.errors import UsageError
from stan_ct.patches.pairs import PairingError, PairingRule, pair_series
from stan_ct.patches.records import make_patches
from stan_ct.patches.where import parse_conditions


def series(*slices: dict) -> SeriesFiles:
    """A series whose slices have these header fields."""
    instances = []
    for z, fields in enumerate(slices):
        header = Dataset()
        for field, value in fields.items():
            if isinstance(field, tuple):
                header.add_new(field, "UN" if isinstance(value, bytes) else "LO", value)
            else:
                setattr(header, field, value)
        instances.append(Instance(Path(f"{z}.dcm"), header))
    return SeriesFiles(tuple(instances))


def holds(text: str, *slices: dict) -> bool:
    (condition,) = parse_conditions([text])
    return condition.holds(series(*slices))


def test_conditions_as_they_are_written():
    """Any field and operator; several joined by commas or given apart; commas, and equal signs, inside a value."""
    texts = ["Exposure<100, KVP>=120", "SeriesDescription~low, (dose|DOSE)=1", "(0053,1042)!=", "(0018,1152) <= -1.5e2"]
    assert [(c.field, c.comparison, c.value) for c in parse_conditions(texts)] == [
        ("Exposure", "<", "100"),
        ("KVP", ">=", "120"),
        ("SeriesDescription", "~", "low, (dose|DOSE)=1"),
        ("(0053,1042)", "!=", ""),
        ("(0018,1152)", "<=", "-1.5e2"),
    ]
    assert parse_conditions([]) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Exposure", r"--source_where expects conditions FIELD<VALUE.*such as\s+Exposure<100.*, not 'Exposure'"),
        ("", "expects conditions"),
        ("<100", "expects conditions"),
        ("Exposur<100", "Exposur is no DICOM keyword or tag, did you mean Exposure?"),
        ("exposure_mAs<1", "exposure_mAs|expects conditions"),
        ("Exposure<low", "Exposure<low needs a number behind <, not 'low'"),
        ("Exposure<", "needs a number behind <, not ''"),
        ("Exposure>nan", "needs a number behind >, not 'nan'"),
        ("SeriesDescription~(", r"'\(' is no regular expression: "),
    ],
)
def test_what_is_no_condition(text, words):
    """Each says what was expected, and what came; it is said before anything is searched."""
    with pytest.raises(UsageError, match=words):
        parse_conditions([text])
    with pytest.raises(UsageError, match=words):
        settings(Path("nowhere"), source_where=(text,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Exposure<100", False),
        ("Exposure<=100", True),
        ("Exposure>=100", True),
        ("Exposure>100", False),
        ("Exposure=100", True),
        ("Exposure=100.0", True),
        ("Exposure=101", False),
        ("Exposure!=100", False),
        ("Exposure!=101", True),
        ("Exposure~^1.0$", True),
        ("(0018,1152)=100", True),
        ("SeriesDescription=chest LOW dose", True),
        ("SeriesDescription=chest", False),
        ("SeriesDescription~low.dose", True),
        ("SeriesDescription~high", False),
        ("SeriesDescription<5", False),
        ("ConvolutionKernel=3", True),
        ("ConvolutionKernel=br40/3", True),
        ("ConvolutionKernel!=3", False),
        ("(0053,1042)=SS50", True),
        ("(0053,1043)~^50", True),
        ("ContrastBolusAgent=", True),
        ("ContrastBolusAgent!=", False),
        ("ContrastBolusAgent=x", False),
        ("ContrastBolusAgent!=x", True),
        ("ContrastBolusAgent<1", False),
        ("PixelSpacing<0.8", True),
        ("PixelSpacing<0.7", False),
        ("PatientAge<18", True),
        ("PatientAge>=1.6", False),
        ("PatientAge=018M", True),
    ],
)
def test_when_a_condition_holds(text, expected):
    """Numbers compare as numbers, words whatever their case; a field with several values by one of them, or by all of it."""
    header = {"Exposure": "100", "SeriesDescription": " Chest low dose ", "ConvolutionKernel": ["Br40", "3"]}
    header |= {(0x0053, 0x1042): "SS50", (0x0053, 0x1043): b"50 %\0", "PixelSpacing": ["0.6", "0.75"], "PatientAge": "018M"}
    assert holds(text, header) is expected


def test_every_slice_speaks():
    """Exposure is judged by its median, whatever the first slice says; words must be the same on all slices."""
    exposures = [{"Exposure": str(n)} for n in (150, 80, 90, 85, 200)]
    assert holds("Exposure<91", *exposures)
    assert not holds("Exposure<90", *exposures)
    assert holds("Exposure<91", {}, *exposures)
    mixed = [{"SeriesDescription": "FBP"}, {"SeriesDescription": "ASIR"}]
    assert [holds(f"SeriesDescription{c}FBP", *mixed) for c in ("=", "!=", "~")] == [False, False, False]
    assert not holds("Exposure<1", {})


def write_dose(folder, hu, number, exposure, patient="P1"):
    """A series of kernel SHARP with an Exposure."""
    for path in write_series(folder, hu, "SHARP", number, patient):
        dataset = pydicom.dcmread(path)
        dataset.Exposure = str(exposure)
        dataset.save_as(path)


def test_protocols_of_one_kernel_differ_by_dose(tmp_path):
    """Low and full dose of one kernel pair with each other, low -> full, by Exposure alone."""
    low, full = volume(3, 258, seed=1), volume(3, 258, seed=2)
    write_dose(tmp_path / "ct", low, 1, 40)
    write_dose(tmp_path / "ct", full, 2, 160)
    where = {"source_where": ("Exposure<100",), "target_where": ("Exposure>=100",)}
    index = make_patches(settings(tmp_path, target_kernel="SHARP", patches_per_slice=1, **where))
    assert index["settings"]["source_where"] == ("Exposure<100",)
    for part in ("train", "validation"):
        for pair in records(tmp_path, part):
            assert place(pair[0], low) == place(pair[1], full)


@pytest.mark.parametrize("where", [{"source_where": ("Exposure<100",)}, {"target_where": ("Exposure>100",)}])
@pytest.mark.parametrize("pairing", [{}, {"pairing": "standard", "target_thickness": 2.5}])
def test_one_condition_divides_a_kernel(tmp_path, where, pairing):
    """Given one condition, the other series of the kernel are on the other side; low dose never pairs as a target."""
    for number, exposure in ((1, 40), (2, 160)):
        write_dose(tmp_path / "ct", volume(3, seed=number), number, exposure)
    rule = settings(tmp_path, target_kernel="SHARP", **where, **pairing).rule
    (pair,) = pair_series(find_series(tmp_path / "ct").series, rule)
    assert (pair.source.first.Exposure, pair.target.first.Exposure) == (40, 160)


def test_only_some_sources(tmp_path):
    """Of two sources of a kernel the one that fulfils the condition is used."""
    source, target = volume(3, 258, seed=1), volume(3, 258, seed=2)
    write_pair(tmp_path / "ct", source, target)
    write_dose(tmp_path / "ct", volume(3, 258, seed=3), 5, 40)
    assert make_patches(settings(tmp_path))["slices"] == {"train": 4, "validation": 2}
    index = make_patches(
        settings(tmp_path, source_where=("Exposure<100,KVP>1", "Exposure>1"), input_dir=(str(tmp_path / "ct"),))
    )
    assert index["slices"] == {"train": 2, "validation": 1}


def test_no_series_fulfils_the_conditions(tmp_path):
    """The message repeats the conditions, and says which values there are."""
    write_pair(tmp_path / "ct", volume(3), volume(3, seed=1))
    for n, exposure in enumerate((30, 160, 90)):
        write_dose(tmp_path / "ct", volume(3, seed=n), n + 3, exposure)
    words = r"kernel 'SHARP' where Exposure<20 and one of 'SOFT' of the same thickness .*; Exposure is 30, 90, 160, \(none\)\. "
    with pytest.raises(PairingError, match=words):
        make_patches(settings(tmp_path, source_where=("Exposure<20",)))


def test_conditions_that_do_not_tell_apart(tmp_path):
    """One kernel for source and target needs a condition, or two that exclude each other."""
    with pytest.raises(PairingError, match="nothing would change, unless --source_where or --target_where tells"):
        PairingRule(("A",), "A")
    write_dose(tmp_path / "ct", volume(3), 1, 40)
    where = {"source_where": ("Exposure<100",), "target_where": ("Exposure<90",)}
    with pytest.raises(PairingError, match=r"fulfils --source_where=Exposure<100 and --target_where=Exposure<90: choose"):
        make_patches(settings(tmp_path, target_kernel="SHARP", **where))
