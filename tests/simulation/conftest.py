"""Phantoms that are built once for all tests of a file: a patient takes seconds, a section a fifth of one."""

from collections.abc import Iterator
from functools import cache

import pytest

from stan_ct.simulation import study


@pytest.fixture(scope="module", autouse=True)
def _phantoms_are_built_once() -> Iterator[None]:
    """In this process; those of workers are built anew. That a phantom depends on its seed alone: test_phantom.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "ThoraxPhantom", cache(study.ThoraxPhantom))
        yield
