"""Protocols as text, and those that are the same."""

import doctest

import pytest

from stan_ct.ct import protocol as module
from stan_ct.ct.protocol import Protocol, distinct_protocols, same_protocol


@pytest.mark.parametrize(("kernel", "thickness"), [("BR40", 3.0), ("Br40d/3", 0.62), ("B", 0.0), ("a 2", 1.0)])
def test_text(kernel, thickness):
    """A protocol can be read back from its text."""
    protocol = Protocol(kernel, thickness)
    assert Protocol.from_text(str(protocol)) == protocol


@pytest.mark.parametrize(("other", "same"), [(1.0149, True), (1.0151, False)])
def test_protocols_that_are_the_same(other, same):
    """Equal kernels within the tolerance of the thickness are one protocol, the thinner; beyond it they are two."""
    one, two = Protocol("A", 1.0), Protocol("A", other)
    assert distinct_protocols([two, Protocol("B", 1.0), one, two]) == [one, *([] if same else [two]), Protocol("B", 1.0)]
    assert same_protocol(two, [one]) == (one if same else None)
    assert same_protocol(Protocol("B", 1.0), [one]) is None


def test_docstrings():
    """Examples in docstrings hold."""
    assert doctest.testmod(module).failed == 0
