"""What many files are: looked up in an index, or examined, in several processes where there are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from stan_ct.dicom.examine import Examined, examine
from stan_ct.dicom.index import HeaderIndex, stamp_of
from stan_ct.dicom.tolerance import tolerant
from stan_ct.parallel import Workers

MANY, CHUNK = 8192, 256
"""Files from which on several processes examine them, and files that one examines at a time."""


def examined(
    paths: Sequence[str], accept_standardized: bool = False, index: Path | None = None, workers: int = 1
) -> Iterator[Examined]:
    """Examines files, see :func:`~stan_ct.dicom.examine.examine`.

    Args:
        paths: The files.
        accept_standardized: Whether slices written by STAN-CT are accepted; the index is left alone then.
        index: Database with what files are, if they have not changed; None for none.
        workers: Number of processes.
    Yields:
        What each file is, in the order of the paths.
    """
    workers = workers if len(paths) >= MANY else 1
    size = MANY if workers > 1 else CHUNK
    with ExitStack() as stack:
        known = stack.enter_context(HeaderIndex(None if accept_standardized else index))
        pool = stack.enter_context(Workers(workers, here=True))
        for start in range(0, len(paths), size):
            block = paths[start : start + size]
            stamps = [stamp_of(path) if index else None for path in block]
            found = [known.known(path, stamp) if stamp else None for path, stamp in zip(block, stamps, strict=True)]
            new = [n for n, each in enumerate(found) if each is None]
            chunks = [new[first : first + CHUNK] for first in range(0, len(new), CHUNK)]
            tasks = [([block[n] for n in chunk], accept_standardized) for chunk in chunks]
            for number, results in pool.as_completed(_examine_all, tasks):
                for n, each in zip(chunks[number], results, strict=True):
                    found[n] = each
                    if stamp := stamps[n]:
                        known.remember(block[n], stamp, each)
            yield from (each for each in found if each is not None)


@tolerant()
def _examine_all(paths: Sequence[str], accept_standardized: bool) -> list[Examined]:
    return [examine(path, accept_standardized) for path in paths]
