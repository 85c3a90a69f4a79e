"""Spectra of parts of a slice, where there is one slice alone."""

import numpy as np
from bodies import PITCH, SIDE, body, reconstruct

from stan_ct.ct.slice_spectra import slice_spectra, spectra_of_parts

NOWHERE, SPACING = np.zeros((SIDE, SIDE), bool), (PITCH, PITCH)


def test_parts_are_measured_apart():
    """Twice the noise on the right shows in parts on the right, and the whole lies between the parts."""
    hu, noise = body(0, 1.0)
    noise[:, SIDE // 2 :] *= 2
    made = reconstruct(hu, noise, np.ones_like)
    parts = spectra_of_parts(made, NOWHERE, SPACING)
    assert len(parts) >= 2
    levels = sorted(float(part.noise[16:24].mean()) for part in parts)
    whole = float(slice_spectra(made, NOWHERE, SPACING).noise[16:24].mean())
    assert levels[-1] > 1.8 * levels[0]
    assert levels[0] < whole < levels[-1]


def test_air_has_no_parts():
    """Where there is no body there is nothing to divide, nor where the body shows too little tissue."""
    assert spectra_of_parts(np.full((SIDE, SIDE), -1000.0), NOWHERE, SPACING) == []
    small = np.where(np.hypot(*np.mgrid[-128:128, -128:128]) < 12, 40.0, -1000.0)
    assert spectra_of_parts(small, NOWHERE, SPACING) == []
