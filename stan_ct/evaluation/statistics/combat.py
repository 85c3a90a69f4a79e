"""ComBat, which harmonizes features instead of images; needs the extra `stan-ct[combat]`."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from stan_ct.errors import StanCTError


class NoCombat(StanCTError, ImportError):
    """neuroCombat is not installed; the message says how to install it."""


def combat(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Removes the location and scale of each protocol from features (Johnson et al. 2007, Fortin et al. 2018).

    ComBat is fitted to the patches that it is tested on, of both protocols, as it is used in studies.

    Args:
        source: Features of the patches in one protocol, (N, k).
        target: Features of the same patches in the other protocol, (N, k).
    Returns:
        Harmonized source and target features, (N, k) float64; features that are constant in a protocol, or undefined (NaN) in
        a patch, are unchanged.
    Raises:
        NoCombat: If neuroCombat is not installed.
    """
    try:
        import pandas
        from neuroCombat import neuroCombat
    except ImportError as error:
        raise NoCombat("ComBat needs neuroCombat: pip install 'stan-ct[combat]'") from error
    both = np.concatenate([source, target]).astype(np.float64)  # (2 N, k)
    fits = np.isfinite(both).all(axis=0) & (np.ptp(source, axis=0) > 0) & (np.ptp(target, axis=0) > 0)
    batches = pandas.DataFrame({"protocol": [0] * len(source) + [1] * len(target)})
    if fits.any():
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):  # it prints its steps, and divides by 0
            both[:, fits] = neuroCombat(dat=both[:, fits].T, covars=batches, batch_col="protocol")["data"].T
    return both[: len(source)], both[len(source) :]
