"""Patch records -> a trained model folder.

`python train.py --records_dir=R --output_dir=M` trains one generator against one discriminator with the paper's losses,
alternating, and writes the networks, the QC threshold and the configuration into M. A run that was stopped goes on.

Exit codes: 0 done, 1 bad usage or no records, 130 stopped with Ctrl-C.
"""

import sys

from absl import app, flags

flags.DEFINE_string("records_dir", None, "Records written by data/make_patches.py.", required=True)
flags.DEFINE_string("output_dir", None, "The model folder to write.", required=True)
flags.DEFINE_string("name", "stan-ct", "Name of the model.")
flags.DEFINE_enum("method", "stan_ct", ["stan_ct", "kernel_filter"], "Train networks, or save the fitted front end alone.")
flags.DEFINE_integer("base_filters", 64, "Filters of G's first layer.", 1)
flags.DEFINE_integer("discriminator_filters", 0, "Filters of D's first layer; 0: as G.", 0)
flags.DEFINE_enum("normalization", "none", ["none", "batch", "group"], "Normalization in G's hidden layers.")
flags.DEFINE_bool("residual", False, "G adds its output to its input (for records with a front end).")
flags.DEFINE_enum("initialization", "normal", ["normal", "he"], "Where weights start: N(0, 0.02) or He's.")
flags.DEFINE_integer("batch_size", 8, "Patches in a batch, over all GPUs.", 1)
flags.DEFINE_float("learning_rate", 1e-4, "Of Adam.", 0)
flags.DEFINE_integer("max_epochs", 100, "Passes over the training patches.", 1)
flags.DEFINE_float("max_minutes", 0, "Stop after this many minutes; 0: no limit.", 0)
flags.DEFINE_integer("d_phase_steps", 100, "A D-phase ends after this many steps.", 1)
flags.DEFINE_integer("g_phase_steps", 100, "A G-phase ends after this many steps.", 1)
flags.DEFINE_float("theta_d", 0.99, "D has won at P(real | target) above this and P(real | synthesized) below its complement.")
flags.DEFINE_float("theta_g", 0.99, "G has won at P(real | synthesized) above this.")
flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16"], "Number type of the hidden layers.")
flags.DEFINE_enum("storage", "float32", ["float32", "float16"], "Number type of the saved weights.")
flags.DEFINE_integer("seed", 0, "Of weights, shuffling and augmentation.")
flags.DEFINE_float("adversarial_weight", 0.01, "Weight of L_adv(G) in Eq. 6.")
flags.DEFINE_float("feature_weight", 0.01, "lambda1 of Eq. 3.")
flags.DEFINE_float("latent_weight", 0.01, "lambda2 of Eq. 6.")
flags.DEFINE_float("l1_weight", 1.0, "lambda3 of Eq. 6.")
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
    from stan_ct.networks.quiet import quiet_start

    with quiet_start():
        from stan_ct.networks.losses import LossSettings
        from stan_ct.networks.precision import compute_dtype
        from stan_ct.training.trainer import TrainSettings, train

        compute_dtype("auto")  # looks for GPUs

    values = flags.FLAGS.flag_values_dict()
    losses = LossSettings(**{name: values[name] for name in LossSettings.__dataclass_fields__})
    names = set(TrainSettings.__dataclass_fields__) - {"losses", "window"}
    settings = TrainSettings(losses=losses, **{name: values[name] for name in names})
    try:
        config = train(settings)
    except (OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: stopped; run the same command to go on from the last checkpoint", file=sys.stderr)
        return 130
    print(f"{settings.output_dir}: model {config.name!r}, {config.source_kernel} -> {config.target_kernel}")
    return 0


if __name__ == "__main__":
    app.run(main)
