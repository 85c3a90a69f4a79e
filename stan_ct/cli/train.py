"""Trains a model on patch records: generators against discriminators with the losses of the paper, in alternating phases.

stan-ct train RECORDS MODEL --max_minutes=30

MODEL gets the best networks by validation, the QC threshold and the configuration; beside them history.csv, validation.csv,
train.flags (repeat with --flagfile) and, for TensorBoard, MODEL/tensorboard. A run that was stopped resumes at its last
checkpoint. It uses all GPUs of the machine; where TF_CONFIG or SLURM name several processes, those of all machines. Without
any flag it trains with the best settings that were measured; --preset=paper trains as the paper does.

Exit codes: 0 done, 1 bad usage or no records, 130 stopped with Ctrl-C, 143 stopped with SIGTERM; a checkpoint is written.
"""

from __future__ import annotations

import sys

from stan_ct.cli.command import Command, fail
from stan_ct.cli.settings_flags import define_flags, settings_from_flags
from stan_ct.errors import StanCTError

GROUPS = {
    "What and where": ("records_dir", "output_dir", "name", "init_model", "method"),
    "How long": ("max_minutes", "max_steps", "max_epochs", "checkpoint_minutes"),
    "Machine": ("batch_size", "precision", "storage", "seed", "deterministic"),
    "Optimization": ("learning_rate", "lr_schedule", "ema", "validation_patches"),
}
"""Title -> flags, the commonest first; the switches of the paper come after them."""


def command() -> Command:
    """The command and its flags."""
    from stan_ct.training.settings import TrainSettings

    made = Command("train", __doc__ or "", ("records_dir", "output_dir"))
    with made.group("Networks, losses and competition (the paper's switches)") as of:
        define_flags(TrainSettings, of)
    made.arrange(GROUPS)
    return made


def run(command: Command) -> int:
    """Trains, and returns the exit code."""
    from stan_ct.allocation import keep_freed_memory
    from stan_ct.quiet import quiet_start
    from stan_ct.training.settings import TrainSettings

    settings = settings_from_flags(TrainSettings, command.values)  # before TensorFlow, which takes seconds to load
    keep_freed_memory()
    with quiet_start():
        from stan_ct.features.errors import texture_errors
        from stan_ct.training.stopping import Stopped
        from stan_ct.training.trainer import train
    try:
        config = train(settings, texture_errors, command.effective_flags())
    except (StanCTError, OSError, ValueError) as error:
        return fail("train", error)
    except (KeyboardInterrupt, Stopped) as stop:
        print("train: stopped; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    print(f"{settings.output_dir}: model {config.name!r}, {config.source_kernel} -> {config.target_kernel}")
    return 0
