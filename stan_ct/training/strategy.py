"""Distribution of training: all GPUs of this machine, several machines, or the processor."""

from __future__ import annotations

import os

import tensorflow as tf

from stan_ct.errors import UsageError


def choose_strategy() -> tf.distribute.Strategy:
    """MultiWorkerMirroredStrategy where TF_CONFIG or SLURM name several processes, else MirroredStrategy.

    Call it before anything else of TensorFlow runs.
    """
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and os.environ.get("SLURM_PROCID"):
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    # Logical processors stand in for GPUs where a test has made several.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def check_batch(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Checks that replicas get equal parts of a batch, since the mean over replicas is to be the mean over the batch.

    Raises:
        UsageError: If they do not.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        below, above = batch_size // replicas * replicas, -(-batch_size // replicas) * replicas
        sizes = f"{below} or {above}" if below else f"{above}"
        raise UsageError(
            f"--batch_size={batch_size} patches do not divide evenly among {replicas} GPUs or machines: choose {sizes}, or use "
            "fewer (CUDA_VISIBLE_DEVICES)"
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes: the only one, or the first of several."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs


def mean_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """Mean of a number over all processes, which all call this at the same step."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    mine = strategy.run(lambda: tf.constant(value, tf.float32))
    return float(strategy.reduce(tf.distribute.ReduceOp.MEAN, mine, axis=None))
