"""Patch records -> a trained model folder.

`python train.py --records_dir=R --output_dir=M` trains generators against discriminators with the losses of the paper, in
alternating phases, and writes into M the best networks by validation, the QC threshold and the configuration; beside them
history.csv, validation.csv, train.flags (repeat with --flagfile) and, for TensorBoard, M/tensorboard. A run that was stopped
goes on where it was. It uses all GPUs of the machine; where TF_CONFIG or SLURM name several processes, those of all machines.

Exit codes: 0 done, 1 bad usage or no records, 130 stopped with Ctrl-C, 143 stopped with SIGTERM; a checkpoint is written.
"""

import sys

from absl import app, flags

from stan_ct.cli.settings_flags import define_flags, settings_from_flags
from stan_ct.training.settings import TrainSettings

FLAGS = flags.FLAGS
define_flags(TrainSettings)


def main(argv: list[str]) -> int:
    """Runs the script."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: all arguments are flags")
    from stan_ct.quiet import quiet_start

    with quiet_start():
        from stan_ct.features.errors import texture_errors
        from stan_ct.training.stopping import Stopped
        from stan_ct.training.trainer import train

    try:
        settings = settings_from_flags(TrainSettings)
        config = train(settings, texture_errors, effective_flags())
    except (OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped) as stop:
        print("train: stopped; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    print(f"{settings.output_dir}: model {config.name!r}, {config.source_kernel} -> {config.target_kernel}")
    return 0


def effective_flags() -> str:
    """All flags as they are, a line each, for --flagfile."""
    mine = FLAGS.get_key_flags_for_module(sys.modules[__name__])
    return "".join(f"{flag.serialize()}\n" for flag in mine if flag.value is not None)


if __name__ == "__main__":
    app.run(main)
