"""Who writes, where several processes train."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from stan_ct.training.strategy import choose_strategy, is_chief, mean_over_workers

ALONE = {"worker": ["a:1", "b:1"]}
LED = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    ("cluster", "task", "chief"),
    [
        (ALONE, ("worker", 0), True),
        (ALONE, ("worker", 1), False),
        (LED, ("chief", 0), True),
        (LED, ("worker", 0), False),
        (LED, ("worker", 1), False),
    ],
)
def test_one_process_writes(cluster, task, chief):
    """The chief writes, or where there is none, the first worker; nobody else."""
    spec = tf.train.ClusterSpec(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=task[0], task_id=task[1])
    assert is_chief(SimpleNamespace(cluster_resolver=resolver)) is chief


def test_one_process():
    """A process alone writes, and agrees with itself."""
    strategy = choose_strategy()
    assert is_chief(strategy)
    assert (strategy.num_replicas_in_sync, mean_over_workers(strategy, 0.3)) == (1, 0.3)
