"""Series to send, a model that is quick, and nodes that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty.runs import save_filter
from pacs.archive import Archive
from pacs.nodes import LocalNode, NodeProcess
from synthetic import random_stored, write_ct

SIDE, SLICES = 64, 3


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model that only filters, without a guard: it takes kernel B."""
    folder = tmp_path_factory.mktemp("model") / "filter"
    save_filter(folder)
    return folder


@pytest.fixture(scope="session")
def series(tmp_path_factory) -> Callable[..., list[Path]]:
    """`series(number)`: files of a series, written once; others of other numbers."""
    folder, written = tmp_path_factory.mktemp("series"), {}

    def write(number: int, slices: int = SLICES, side: int = SIDE, **options) -> list[Path]:
        key = (number, slices, side, repr(options))
        if key not in written:
            stored = random_stored((slices, side, side), seed=number) // 16 + 1000
            written[key] = write_ct(folder / str(len(written)), stored, series=number, **options)
        return written[key]

    return write


@pytest.fixture
def archive() -> Iterator[Archive]:
    """An archive that is open."""
    made = Archive()
    made.open()
    yield made
    made.close()


@pytest.fixture
def start_node(tmp_path, model) -> Iterator[Callable[..., LocalNode]]:
    """`start_node(flag=value)`: a node in this process, on a spool of this test."""
    nodes: list[LocalNode] = []

    def start(spool: str = "spool", **changed) -> LocalNode:
        nodes.append(LocalNode(tmp_path / spool, model, **changed))
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


@pytest.fixture
def start_process(tmp_path, model) -> Iterator[Callable[..., NodeProcess]]:
    """`start_process(*flags)`: a node that is a process of its own, as people run it."""
    nodes: list[NodeProcess] = []

    def start(*flags: str) -> NodeProcess:
        nodes.append(NodeProcess(tmp_path / "spool", model, *flags))
        nodes[-1].start()
        return nodes[-1]

    yield start
    for node in nodes:
        if node.pid:
            node.end()
