"""Series whose noise is measured once for all tests of a file, which takes half of the time of making records."""

from collections.abc import Iterator
from functools import wraps

import pytest

from stan_ct.dicom import characteristics
from stan_ct.dicom.characteristics import SeriesCharacteristics
from stan_ct.dicom.series import SeriesFiles


@pytest.fixture(scope="module", autouse=True)
def _noise_is_measured_once() -> Iterator[None]:
    """In this process, of files that have not been written anew since; workers measure it themselves."""
    known, measure = {}, characteristics.read_characteristics

    @wraps(measure)  # under its own name, so that workers find it
    def once(files: SeriesFiles, *options: object) -> SeriesCharacteristics:
        written = [(each.path, each.path.stat().st_mtime_ns, each.path.stat().st_size) for each in files.instances]
        key = (*written, *options)
        if key not in known:
            known[key] = measure(files, *options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stan_ct.dicom.characteristics.read_characteristics", once)
        patch.setattr("stan_ct.patches.records.read_characteristics", once)
        yield
