"""Scans of two sites, of different patients."""

import pytest
from patients_in_kernels import write_patient


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """A: two patients of SOFT and two of SOFTER; B: three others of SHARP, of less dose."""
    root = tmp_path_factory.mktemp("sites")
    for seed, kernel in ((1, "SOFT"), (2, "SOFT"), (3, "SOFTER"), (4, "SOFTER")):
        write_patient(root / "A", kernel, seed)
    for seed in (5, 6, 7):
        write_patient(root / "B", "SHARP", seed, 1.4)
    return root
