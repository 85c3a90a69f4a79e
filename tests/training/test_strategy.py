"""Who writes, where several processes train."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from stan_ct.errors import UsageError
from stan_ct.training.strategy import check_batch, choose_strategy, is_chief, mean_over_workers

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


@pytest.mark.parametrize(
    ("replicas", "batch", "choose"),
    [(1, 7, ""), (2, 8, ""), (2, 2, ""), (2, 7, "6 or 8"), (2, 1, "2"), (3, 8, "6 or 9"), (4, 3, "4")],
)
def test_replicas_get_equal_parts(replicas, batch, choose):
    """A batch that they do not divide evenly is refused, with the sizes next to it that they do."""
    strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    if not choose:
        check_batch(strategy, batch)
        return
    words = f"--batch_size={batch} patches do not divide evenly among {replicas} GPUs or machines: choose {choose}, or use"
    with pytest.raises(UsageError, match=words):
        check_batch(strategy, batch)


def test_one_process():
    """A process alone writes, and agrees with itself."""
    strategy = choose_strategy()
    assert is_chief(strategy)
    assert (strategy.num_replicas_in_sync, mean_over_workers(strategy, 0.3)) == (1, 0.3)
