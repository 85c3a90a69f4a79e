"""A synthesizer that sees adjacent slices gets them beside each patch, after the whole-slice step."""

import numpy as np
import pytest
from synthesizers import Scripted, scripted_model
from synthetic import write_ct

from stan_ct.dicom.find import find_series
from stan_ct.dicom.series import load_series


class Seeing(Scripted):
    """Filters a slice by adding 1 HU, sees the slices beside each, and remembers what it was given."""

    adjacent_slices = 1

    def __init__(self):
        super().__init__()
        self.prepared = 0

    def prepare(self, hu, pixel_spacing, kernel=""):
        self.prepared += 1
        return hu + 1

    def __call__(self, patches):
        self.seen.append(patches)
        return patches[..., 0], np.ones(len(patches), np.float32)


@pytest.fixture
def series(tmp_path):
    """Four slices of 10, 20, 30 and 40 HU; the last lies one slice too high."""

    def edit(dataset, z):
        dataset.ImagePositionPatient = [0, 0, 2.5 * z + 2.5 * (z == 3)]

    write_ct(tmp_path, np.full((4, 64, 64), 1024) + 10 * np.arange(1, 5)[:, None, None], edit=edit)
    return load_series(find_series(tmp_path).series[0])


def test_patches_come_with_those_beside(series):
    """Ends, and slices at a gap, are their own neighbours; each slice is prepared once for itself and once for the others."""
    synthesizer = Seeing()
    made = scripted_model(synthesizer).standardize(series)
    assert [patches.shape[1:] for patches in synthesizer.seen] == [(256, 256, 3)] * 4
    values = [[int(v) for v in np.unique(p[..., c])] for p in synthesizer.seen for c in range(3)]
    assert values == [[11], [11], [21], [21], [11], [31], [31], [21], [31], [41], [41], [41]]
    assert synthesizer.prepared == 8
    assert [np.unique(hu).tolist() for hu in made.volume] == [[11.0], [21.0], [31.0], [41.0]]


def test_others_get_patches_alone(series):
    """Without adjacent slices patches have no channels."""
    synthesizer = Scripted()
    scripted_model(synthesizer).standardize(series)
    assert {patches.ndim for patches in synthesizer.seen} == {3}
