"""Logs of a training step: means over copies, and P(real) by the numbers of opponents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from stan_ct.training.phases import Phase

Logs = dict[str, tf.Tensor]


def mean_of(values: Iterable[tf.Tensor]) -> tf.Tensor:
    """Mean of scalars over copies; 0 without any."""
    values = list(values)
    return tf.add_n(values) / len(values) if values else tf.zeros(())


def collect(logs: list[Logs], axis: int) -> Logs:
    """Terms as means over the copies that trained, P(real) stacked along `axis`."""
    shown = {name: mean_of(log[name] for log in logs) for name in logs[0] if not name.startswith("p_real")}
    for name in ("p_real_target", "p_real_synthesized"):
        if name in logs[0]:
            values = [log[name] for log in logs]
            shown[name] = tf.stack(values, axis=min(axis, len(values[0].shape)))
    return shown


def flatten(phase: Phase, active: Sequence[int], logs: Logs) -> Logs:
    """Logs with a scalar for each P(real), by the numbers of D and G."""
    flat = {name: value for name, value in logs.items() if not name.startswith("p_real")}
    if phase == "d":
        flat |= {f"p_real_target_d{d}": logs["p_real_target"][row] for row, d in enumerate(active)}
    rows, columns = logs["p_real_synthesized"].shape
    ds, gs = (active, range(columns)) if phase == "d" else (range(rows), active)
    for row, d in enumerate(ds):
        flat |= {f"p_real_synthesized_d{d}_g{g}": logs["p_real_synthesized"][row, column] for column, g in enumerate(gs)}
    return flat
