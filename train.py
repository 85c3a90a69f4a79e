"""Patch records -> a trained model folder.

`python train.py --records_dir=R --output_dir=M` trains generators against discriminators with the losses of the paper, in
alternating phases, and writes into M the best networks by validation, the QC threshold and the configuration; beside them
history.csv, validation.csv, train.flags (repeat with --flagfile) and, for TensorBoard, M/tensorboard. A run that was stopped
goes on where it was. It uses all GPUs of the machine; where TF_CONFIG or SLURM name several processes, those of all machines.

Exit codes: 0 done, 1 bad usage or no records, 130 stopped with Ctrl-C, 143 stopped with SIGTERM; a checkpoint is written.
"""

import sys

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("records_dir", None, "Records written by data/make_patches.py.", required=True)
flags.DEFINE_string("output_dir", None, "The model folder to write.", required=True)
flags.DEFINE_string("name", "stan-ct", "Name of the model.")
flags.DEFINE_enum("method", "stan_ct", ["stan_ct", "unet", "kernel_filter", "histogram"], "GAN, G alone, or a baseline.")
flags.DEFINE_enum("competition", "alternating", ["alternating", "joint"], "Phases, or a step of D, a step of G (pix2pix).")
flags.DEFINE_bool("conditional", False, "D sees the source beside the patch that it judges (cGAN).")
flags.DEFINE_bool("high_pass", False, "D sees the fine detail of a patch alone.")
flags.DEFINE_integer("number", 2, "N: generators, and as many discriminators.", 1)
flags.DEFINE_enum("copies", "population", ["population", "history"], "All N train, or one against its own past.")
flags.DEFINE_integer("d_phase_steps", 100, "Steps of one try of a D-phase (t_max).", 1)
flags.DEFINE_integer("g_phase_steps", 100, "Steps of one try of a G-phase (t_max).", 1)
flags.DEFINE_float("theta_d", 0.99, "D has won at P(real | target) above this and P(real | synthesized) below its complement.")
flags.DEFINE_float("theta_g", 0.99, "G has won at P(real | synthesized) above this under every D.")
flags.DEFINE_integer("max_rollbacks", 1, "How often a copy that has not won goes back and tries again in one phase.", 0)
flags.DEFINE_integer("window", 20, "Batches over which P(real) is averaged.", 1)
flags.DEFINE_integer("base_filters", 64, "Filters of G's first layer.", 1)
flags.DEFINE_integer("discriminator_filters", 0, "Filters of D's first layer; 0: as G.", 0)
flags.DEFINE_enum("normalization", "none", ["none", "batch", "group"], "Normalization in G's hidden layers.")
flags.DEFINE_bool("use_front_end", True, "Sources pass the records' radial filter, where they have one, before G.")
flags.DEFINE_bool("residual", False, "G adds its output to its input and starts as the identity.")
flags.DEFINE_enum("initialization", "normal", ["normal", "he"], "Where weights start: N(0, 0.02) or He's.")
flags.DEFINE_string("init_model", "", "Model folder, or name of one that ships (default), to start from: fine-tuning.")
flags.DEFINE_integer("batch_size", 8, "Patches in a batch, over all GPUs.", 1)
flags.DEFINE_float("learning_rate", 1e-4, "Of Adam.", 0)
flags.DEFINE_bool("decay", False, "The learning rate falls to 0 while the run uses up its epochs, steps or minutes.")
flags.DEFINE_float("ema", 0, "Momentum of the moving average of G's weights that is measured and saved; 0: none.", 0, 0.99999)
flags.DEFINE_integer("max_epochs", 100, "Passes over the training patches, in G's steps.", 1)
flags.DEFINE_integer("max_steps", 0, "Stop after this many steps of G; 0: no limit.", 0)
flags.DEFINE_float("max_minutes", 0, "Stop after this many minutes of training; 0: no limit.", 0)
flags.DEFINE_integer("patience", 0, "Stop when so many versions bring no lower validation error; 0: never.", 0)
flags.DEFINE_integer("validation_patches", 64, "Validation patches that versions are compared on; 0: all.", 0)
flags.DEFINE_float("checkpoint_minutes", 5, "Time between checkpoints.", 0)
flags.DEFINE_integer("keep_versions", 3, "Versions of G that are kept.", 0)
flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16", "float16"], "Number type of the hidden layers.")
flags.DEFINE_enum("storage", "float32", ["float32", "float16"], "Number type of the saved weights.")
flags.DEFINE_integer("seed", 0, "Of weights, order and augmentation.")
flags.DEFINE_bool("deterministic", False, "Deterministic kernels only; slower.")
flags.DEFINE_float("adversarial_weight", 0.01, "Weight of L_adv(G) in Eq. 6.")
flags.DEFINE_float("feature_weight", 0.01, "lambda1 of Eq. 3.")
flags.DEFINE_float("latent_weight", 0.01, "lambda2 of Eq. 6.")
flags.DEFINE_float("l1_weight", 1.0, "lambda3 of Eq. 6.")
flags.DEFINE_float("texture_weight", 0.0, "Weight of the texture loss: relative errors of dissimilarity, contrast, ...", 0)
flags.DEFINE_bool("inside_only", False, "G is not judged where there is nothing to standardize.")
flags.DEFINE_enum("adversarial", "wgan", ["wgan", "cross_entropy"], "Adversarial loss (Eqs. 1, 4, or GANai's).")
flags.DEFINE_enum("critic_output", "logit", ["logit", "probability"], "What the critic value f is.")
flags.DEFINE_integer("feature_sign", -1, "-1: D maximises L_feat (Eq. 3); 1: it minimises it.")
flags.register_validator("feature_sign", lambda sign: sign in (-1, 1), "--feature_sign must be -1 or 1")
flags.DEFINE_bool("latent_stop_gradient", False, "No gradient through z(x) in Eq. 5.")
flags.DEFINE_enum("lipschitz", "spectral", ["none", "spectral", "clip", "gradient_penalty"], "How D is kept 1-Lipschitz.")
flags.DEFINE_float("clip_value", 0.01, "Bound of D's weights for --lipschitz=clip.", 0)
flags.DEFINE_float("penalty_weight", 10.0, "Weight of the gradient penalty.", 0)


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
        settings = settings_from_flags()
        config = train(settings, texture_errors, effective_flags())
    except (OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped) as stop:
        print("train: stopped; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    print(f"{settings.output_dir}: model {config.name!r}, {config.source_kernel} -> {config.target_kernel}")
    return 0


def settings_from_flags() -> object:
    """The flags as settings.

    Raises:
        ValueError: If a value is out of its range.
    """
    from stan_ct.networks.losses import LossSettings
    from stan_ct.training.phases import PhaseRules
    from stan_ct.training.settings import TrainSettings

    values = FLAGS.flag_values_dict()

    def chosen(kind: type, *left_out: str) -> dict:
        return {name: values[name] for name in kind.__dataclass_fields__ if name not in left_out}

    parts = {"losses": LossSettings(**chosen(LossSettings)), "phases": PhaseRules(**chosen(PhaseRules))}
    return TrainSettings(**parts, **chosen(TrainSettings, "losses", "phases", "hu_window"))


def effective_flags() -> str:
    """All flags as they are, a line each, for --flagfile."""
    mine = FLAGS.get_key_flags_for_module(sys.modules[__name__])
    return "".join(f"{flag.serialize()}\n" for flag in mine if flag.value is not None)


if __name__ == "__main__":
    app.run(main)
