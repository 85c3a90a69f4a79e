"""Freed memory is kept by the process where the C library can do so."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from stan_ct.allocation import keep_freed_memory
kept = {call}
block = bytearray(40_000_000); del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = bytearray(40_000_000); del block
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call):
    """What a call returns, and the page faults of five blocks of 40 MB that are taken and freed after it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(call=call)], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has mallopt")
def test_freed_blocks_are_used_again():
    """Blocks of the same size cost page faults once, where they cost them every time before (fewer with huge pages)."""
    untouched, (kept, faults) = page_faults("None")[1], page_faults("keep_freed_memory()")
    if kept == "False":
        pytest.skip("the C library is not glibc")
    assert untouched >= 5 * 40_000_000 // 2**21
    assert faults < 20


def test_other_systems_are_left_alone(monkeypatch):
    """No call where there is no glibc."""
    from stan_ct import allocation

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocation.keep_freed_memory() is False
