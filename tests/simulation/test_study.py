"""A simulated patient as a DICOM study: what the scan promises, and what the headers say."""

import io
import json

import numpy as np
import pydicom
import pytest

from stan_ct.ct.kernels import KERNELS, Kernel
from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series
from stan_ct.simulation.study import Patient, Scan, acquire, dicom_slice

SOFT, SHARP = KERNELS["BR40"], KERNELS["BL64"]
MODULES = {  # type 1 attributes of the CT image's modules, PS3.3 A.3.3
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "FrameOfReferenceUID", "ImageType", "PixelSpacing"),
    *("ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "RescaleIntercept", "RescaleSlope"),
    *("SOPClassUID", "SOPInstanceUID"),
}
EMPTY = {  # type 2
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    *("StudyID", "AccessionNumber", "Manufacturer", "PatientPosition", "PositionReferenceIndicator", "InstanceNumber", "KVP"),
    *("SliceThickness", "AcquisitionNumber", "SeriesNumber"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two slices of one patient in two kernels and two thicknesses: the patient, the images, the folder of files."""
    folder = tmp_path_factory.mktemp("study")
    patient = Patient(7, Scan((SOFT, SHARP), (1.0, 3.0), slices=2))
    images = dict(acquire(patient, range(2)))
    for index, slices in images.items():
        for number, image in enumerate(slices):
            (folder / f"{number}-{index}.dcm").write_bytes(dicom_slice(patient, number, index, image))
    return patient, images, folder


def header(study, number=0, index=0):
    return pydicom.dcmread(study[2] / f"{number}-{index}.dcm")


def test_slice_does_not_depend_on_its_neighbours(study):
    """A slice scanned alone is, bit for bit, the one scanned among others: any part may be made by any worker."""
    patient, images, _ = study
    alone = dict(acquire(Patient(7, patient.scan), [1]))[1]
    assert all(np.array_equal(a, b) for a, b in zip(alone, images[1], strict=True))


def test_series_of_a_patient_share_one_scan(study):
    """Sharper is noisier, thicker is quieter, and the noise of two kernels has the same origin."""
    images = dict(zip([(k.name, t) for _, k, t in study[0].scan.series], study[1][0], strict=True))
    muscle = (slice(230, 280), slice(120, 400))  # holds muscle, fat, bone and lung alike: differences show the noise
    between = {key: np.diff(image[muscle].astype(float), axis=1).std() for key, image in images.items()}
    assert between["BL64", 1.0] > 1.5 * between["BR40", 1.0]
    assert between["BL64", 3.0] < between["BL64", 1.0]
    shared = np.corrcoef(images["BR40", 1.0].ravel(), images["BL64", 1.0].ravel())[0, 1]
    assert 0.9 < shared < 0.9999


def test_air_and_water_have_their_hu(study):
    """Air around the patient is -1000 HU on average in the soft kernel, in 12 bits from -1024."""
    image = study[1][0][0]
    assert image[:20, 100:400].mean() == pytest.approx(-1000, abs=3)
    assert image.min() >= -1024
    assert image.max() <= 3071


def test_files_hold_the_images(study):
    """What is read back is what was scanned, by kernel, thickness and place."""
    patient, images, folder = study
    inventory = find_series(folder)
    assert not inventory.refusals
    assert [(s.kernel, s.slice_thickness) for s in sorted(inventory.series, key=lambda s: s.number)] == [
        ("BR40", 1.0),
        ("BL64", 1.0),
        ("BR40", 3.0),
        ("BL64", 3.0),
    ]
    for files in inventory.series:
        series = load_series(files)
        expected = np.stack([images[i][files.number - 1] for i in range(2)])
        assert np.array_equal(series.volume, expected)
        assert [i.location for i in files.instances] == [patient.place(0), patient.place(1)]


def test_one_study_one_frame_of_reference_many_series(study):
    """All series of a patient can be overlaid; no two files share a SOP Instance UID; another patient shares nothing."""
    headers = [pydicom.dcmread(path) for path in sorted(study[2].iterdir())]
    assert len({h.StudyInstanceUID for h in headers}) == len({h.FrameOfReferenceUID for h in headers}) == 1
    assert len({h.SeriesInstanceUID for h in headers}) == 4
    assert len({h.SOPInstanceUID for h in headers}) == 8
    other = Patient(8, study[0].scan)
    assert other.study_uid != headers[0].StudyInstanceUID
    assert other.name != headers[0].PatientID


def test_headers_say_that_it_is_simulated(study):
    """Nobody can take it for a patient: description, manufacturer, comments, phantom flags say so; no date is made up."""
    ds = header(study)
    assert "simulated" in ds.SeriesDescription
    assert ds.Manufacturer == "STAN-CT simulator"
    assert "Simulated" in ds.ImageComments
    assert "estimates. BR40: f50 4.2, f10 7 lp/cm, overshoot 0. Dose" in ds.ImageComments
    assert (ds.QualityControlImage, ds.QualityControlSubject) == ("YES", "YES")
    assert str(ds.PatientName).startswith("Simulated")
    assert [ds.StudyDate, ds.StudyTime, ds.KVP] == ["", "", None]
    assert "ContentDate" not in ds


def test_attributes_of_the_ct_image_are_there(study):
    """Every attribute that the CT Image IOD demands has a value, or is there and may be empty."""
    ds = header(study, number=3)
    assert {keyword for keyword in MODULES if not ds.get(keyword) and ds.get(keyword) != 0} == set()
    assert {keyword for keyword in EMPTY if keyword not in ds} == set()


def test_bytes_depend_on_seed_and_scan_alone(study):
    """The same file twice, and another one for another dose."""
    patient, images, folder = study
    again = dicom_slice(Patient(7, patient.scan), 0, 0, images[0][0])
    assert again == (folder / "0-0.dcm").read_bytes()
    brighter = Patient(7, Scan((SOFT, SHARP), (1.0, 3.0), slices=2, dose=(4, 4)))
    uid = pydicom.dcmread(io.BytesIO(dicom_slice(brighter, 0, 0, images[0][0]))).SOPInstanceUID
    assert uid != header(study).SOPInstanceUID


def test_more_kernels_change_no_pixel(study):
    """A patient keeps place, dose and pixels when further kernels and thicknesses are reconstructed; the study is another."""
    few = Patient(7, Scan((SHARP,), (1.0,), slices=2))
    image = dict(acquire(few, [0]))[0][0]
    assert np.array_equal(image, study[1][0][1])
    ds = pydicom.dcmread(io.BytesIO(dicom_slice(few, 0, 0, image)))
    assert ds.StudyInstanceUID != header(study).StudyInstanceUID
    assert ds.SliceLocation == header(study).SliceLocation


def test_doses_and_places_are_drawn(study):
    """Doses fill their range, places lie on raw slices within the chest, and both are the patient's own."""
    scan = Scan((SOFT,), slices=11, dose=(0.5, 2))
    patients = [Patient(seed, scan) for seed in range(200)]
    doses, starts = np.array([p.dose for p in patients]), np.array([p.start for p in patients])
    assert 0.5 <= doses.min() < 0.55
    assert 1.8 < doses.max() <= 2
    assert np.median(doses) == pytest.approx(1, abs=0.15)
    assert -90 <= starts.min() < -85
    assert 45 < starts.max() <= 50
    assert np.all(starts % 0.5 == 0)
    assert Patient(3, Scan((SOFT,), start=-12.5)).start == -12.5


def test_description_tells_the_truth(study):
    """The description is JSON, and says seed, dose, place and what the phantom holds."""
    told = json.loads(json.dumps(study[0].description()))
    assert (told["seed"], told["patient"]) == (7, "SIM000007")
    assert told["dose"] == study[0].dose
    assert told["phantom"]
    assert [kernel["f50"] for kernel in told["kernels"]] == [4.2, 9.6]
    assert told["scanner"]["noise_factor"] == 1


def test_kernel_of_several_values(study):
    """A kernel such as Br40d/3 is written as the two values that scanners write."""
    patient = Patient(7, Scan((Kernel("Br40d/3", 4.2, 7.0),), slices=2))
    data = dicom_slice(patient, 0, 0, study[1][0][0])
    assert list(pydicom.dcmread(io.BytesIO(data)).ConvolutionKernel) == ["Br40d", "3"]
    assert patient.scan.folders == ["Br40d-3_1mm"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernels": ()}, "none"),
        ({"kernels": (SOFT, SOFT)}, "different names"),
        ({"thicknesses": (0.2,)}, "0.2"),
        ({"thicknesses": (1.0, 1.0)}, "different thicknesses"),
        ({"slices": 0}, "0 at"),
        ({"increment": 0.7}, "multiple of 0.5"),
        ({"dose": (2.0, 1.0)}, "lower end first"),
        ({"dose": (0.0, 1.0)}, "within 0.01"),
        ({"thicknesses": (float("inf"),)}, "inf"),
        ({"start": float("nan")}, "nan"),
        ({"slices": 400}, "must lie within -170 to 130"),
    ],
)
def test_numbers_out_of_range_are_refused(change, words):
    """A scan that cannot be made is refused in words that name what came."""
    with pytest.raises(ValueError, match=words):
        Scan(**{"kernels": (SOFT,), **change})


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("thicknesses", (0.5,), (0.49,)),
        ("thicknesses", (20.0,), (20.1,)),
        ("dose", (0.01, 1.0), (0.0099, 1.0)),
        ("dose", (1.0, 1e9), (1.0, 1.01e9)),
        ("start", -170.0, -170.5),
        ("start", 107.0, 107.5),  # 24 slices, the last one 23 mm above the first: at 130 mm, the end of the body
        ("increment", 0.5, 0.51),
    ],
)
def test_limits_of_a_scan(name, inside, outside):
    """Each limit is allowed, and the next number beyond it is not."""
    assert getattr(Scan((SOFT,), **{name: inside}), name) == inside
    with pytest.raises(ValueError, match=r"expected|must lie within"):
        Scan((SOFT,), **{name: outside})
