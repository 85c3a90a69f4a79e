"""Writes the networks of a model as an ONNX graph, so that it standardizes without TensorFlow.

stan-ct export MODEL

MODEL gets networks.onnx, whose weights stay in the model's own files, and networks.json. From then on `stan-ct reconstruct`
starts in a fraction of the time. With --output_dir the graph holds its weights, for use elsewhere: input `gray`, (N, H, W, C)
float32 in [-1, 1], H and W multiples of 256; output `synthesized`, (N, H, W, 1). The models that ship are exported already.
Nothing is written unless all engines that are installed give the output of TensorFlow.

Exit codes: 0 done, 1 bad usage, no such model, or another output than TensorFlow's.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stan_ct.cli.command import Command, fail


def command() -> Command:
    """The command and its flags."""
    made = Command("export", __doc__ or "", ("model",))
    with made.group("Flags") as of:
        flags.DEFINE_string("model", None, "Model folder, or name of a model that ships.", required=True, flag_values=of)
        flags.DEFINE_string(
            "output_dir",
            None,
            "Folder for a graph that holds its weights; by default it refers to the model's.",
            flag_values=of,
        )
    return made


def run(command: Command) -> int:
    """Exports and prints."""
    from stan_ct.models.checksums import GRAPH, SHIPPED
    from stan_ct.models.folder import find_model
    from stan_ct.quiet import quiet_start

    folder = find_model(command["model"])
    output_dir = Path(command["output_dir"]) if command["output_dir"] else None
    if output_dir is None and folder.resolve().parent == SHIPPED:
        return fail("export", f"{folder} ships with STAN-CT and is exported: give an --output_dir for a graph with its weights")
    try:
        with quiet_start():
            from stan_ct.engines.export import export_model

            export = export_model(folder, output_dir)
    except ModuleNotFoundError as error:
        return fail("export", f"{error.name} is not installed: pip install 'stan-ct[onnx]'")
    except OSError as error:
        return fail("export", f"the output could not be written: {error}")
    compared = ", ".join(f"{name} {version}" for name, version in export.compared.items())
    print(f"{(output_dir or folder) / GRAPH}: at most {export.largest_difference:.2g} HU from TensorFlow ({compared})")
    return 0
