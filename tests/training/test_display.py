"""The progress line of a run."""

import re
import time

import numpy as np

from stan_ct.training.display import SHOWN_EVERY, Display


def test_progress_line(tmp_path, monkeypatch):
    """Phase, version, step, losses, P(real), patches a second and the time left, all in one line, every SHOWN_EVERY steps."""
    clock = iter(np.arange(0.0, 100.0, 2.0))  # two seconds from look to look
    shown = Display(tmp_path, (1, 1), {"contrast": 0.5}, {"history": 0, "validation": 0}, batch_size=4)
    lines = []
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(shown._bar, "set_description_str", lines.append)
    marks = {"phase": "g", "phases": 1, "attempt": 0, "version": 3}
    for step in range(1, 2 * SHOWN_EVERY + 1):
        shown.step(step, step, marks, {"l1": 0.25, "total_g": 0.25}, {"l1": 0.25, "p_real_synthesized_d0_g0": 0.5})
        shown.bar(step / 100, 3.0 * step)
    monkeypatch.undo()
    shown.close()
    assert len(lines) == 2
    assert lines[1].startswith("03:57 left, 40 patches/s | version 3, step 21, G-phase | l1 0.2500 | P(real) 0.500")
    assert shown._bar.n == 0.21


def test_no_line_without_a_terminal(tmp_path, capfd):
    """Log files get a line for each version and no bar."""
    shown = Display(tmp_path, (1, 1), {"contrast": 0.5}, {"history": 0, "validation": 0}, batch_size=4)
    shown.step(1, 1, {"phase": "g", "phases": 0, "attempt": 0, "version": 0}, {"l1": 0.25}, {"l1": 0.25})
    shown.bar(0.1, 1.0)
    shown.close()
    assert not re.search(r"patches/s", "".join(capfd.readouterr()))
