"""`features.csv` is tidy: one row a region and image, one column a feature, and read by pandas and R as it was written."""

import csv
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from pydicom.dataset import Dataset

from stan_ct.evaluation.measure.region_features import Loss, Measure, Origin, RoiRows
from stan_ct.evaluation.tables.features_csv import IDENTITY, VOXELS, column_name, features_csv
from stan_ct.features.first_order import HISTOGRAM, STATISTICS
from stan_ct.features.glcm import ALL_FEATURES
from stan_ct.features.mirp import FAMILIES

MEASURES = (
    Measure("first-order", "mean"),
    Measure("25 HU, 2.5D merged", "contrast"),
    Measure("25 HU, GLRLM, 3D merged", "gap"),
)
COLUMNS = ("first_order_mean", "glcm_25_hu_2_5d_merged_contrast", "glrlm_25_hu_3d_merged_gap")
R_WORDS = {"if", "else", "repeat", "while", "function", "for", "next", "break", "TRUE", "FALSE", "NULL", "Inf", "NaN", "NA"}


def header(series, kernel, thickness="2.50"):
    dataset = Dataset()
    dataset.SeriesInstanceUID, dataset.ConvolutionKernel, dataset.SliceThickness = series, kernel, thickness
    return dataset


@pytest.fixture
def rows():
    """Two patients with a lesion each; of the second a feature is undefined, and half of the voxels are on a missing slice."""
    values = np.array([[[1.5, 0.1, 1e-17], [-2.0, 1 / 3, 4]], [[-1e5, 7, 5], [3, np.nan, 6]]])
    images = ("source", "stan-ct")
    origins = (
        Origin("lesion 1", "007", "1.2.1", {"source": header("1.2.1.1", "BR40"), "stan-ct": header("1.2.1.2", "BL64")}),
        Origin(
            'Läsion, "links"',
            "A, b",
            "1.2.2",
            {"source": header("1.2.2.1", ["H", "3"]), "stan-ct": header("1.2.2.2", "", None)},
        ),
    )
    rois = ("series 1, lesion 1", 'series 2, Läsion, "links"')
    notes = {(rois[1], "stan-ct", MEASURES[1]): "flat"}
    lost = {rois[1]: (Loss(2.0, 10, "stan-ct has no slice"), Loss(4.0, 20, "stan-ct has no slice"))}
    return RoiRows(rois, images, MEASURES, values, np.array([9, 30]), np.array([10, 60]), notes, lost, ("007", "A, b"), origins)


def test_a_row_for_each_region_and_image(rows):
    """IDs, voxels and every number in full; nothing where a feature is undefined or a header says nothing."""
    header, *lines = csv.reader(io.StringIO(features_csv(rows)))
    assert header == [*IDENTITY, *VOXELS, *COLUMNS]
    first, second = ["007", "1.2.1", "1.2.1.1", "lesion 1"], ["A, b", "1.2.2", "1.2.2.1", 'Läsion, "links"']
    assert lines == [
        [*first, "source", "1.2.1.1", "BR40", "2.50", "10", "0", "9", "1.5", "0.1", "1e-17"],
        [*first, "stan-ct", "1.2.1.2", "BL64", "2.50", "10", "0", "9", "-2.0", repr(1 / 3), "4.0"],
        [*second, "source", "1.2.2.1", "H/3", "2.50", "60", "30", "30", "-100000.0", "7.0", "5.0"],
        [*second, "stan-ct", "1.2.2.2", "", "", "60", "30", "30", "3.0", "", "6.0"],
    ]


def test_control_characters_of_headers_are_left_out(rows):
    """Padding of an ID, or a line break in it, moves nothing."""
    (first, second) = rows.origins
    object.__setattr__(rows, "origins", (first._replace(patient="007 \0"), second._replace(patient="A\n1")))
    patients = [line["patient_id"] for line in csv.DictReader(io.StringIO(features_csv(rows)))]
    assert patients == ["007", "007", "A1", "A1"]


def test_every_feature_has_a_column_of_its_own_that_r_takes():
    """Letters, digits and "_", no two alike, none a word of R."""
    groups = {"first-order": STATISTICS, "first-order, 25 HU": HISTOGRAM, "25 HU, 2.5D merged": ALL_FEATURES}
    groups |= {f"25 HU, {family}, 2.5D merged": names.values() for family, names in FAMILIES.items()}
    groups |= {"12.5 HU, 2.5D merged": ALL_FEATURES}
    columns = [*IDENTITY, *VOXELS, *(column_name(Measure(group, f)) for group, features in groups.items() for f in features)]
    assert len(set(columns)) == len(columns) > 100
    assert [name for name in columns if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in R_WORDS] == []


def test_pandas_reads_it(rows, tmp_path):
    """Numbers are numbers, what is undefined is NaN, and an ID keeps its zeros."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    (tmp_path / "features.csv").write_text(features_csv(rows), encoding="utf-8")
    table = pandas.read_csv(tmp_path / "features.csv", dtype={"patient_id": str})
    assert table.shape == (4, len(IDENTITY) + len(VOXELS) + 3)
    assert table["patient_id"].tolist() == ["007", "007", "A, b", "A, b"]
    np.testing.assert_array_equal(table[list(COLUMNS)].to_numpy(float), rows.values.reshape(4, 3))
    wide = table.pivot(index=["patient_id", "region"], columns="image", values="first_order_mean")
    assert wide.loc[("007", "lesion 1"), "stan-ct"] == -2


@pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not installed")
def test_r_reads_it(rows, tmp_path):
    """As pandas does."""
    (tmp_path / "features.csv").write_text(features_csv(rows), encoding="utf-8")
    read = 'd <- read.csv("features.csv", colClasses = c(patient_id = "character"));'
    show = "cat(names(d)[9], d$patient_id[1], nrow(d), is.na(d[4, ncol(d) - 1]), sum(d$first_order_mean), class(d[, ncol(d)]))"
    done = subprocess.run(["Rscript", "-e", read + show], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["voxels_drawn", "007", "4", "TRUE", "-99997.5", "numeric"]
