"""Lists the models that ship with STAN-CT; packs models into one file, for machines without a network, and unpacks them.

stan-ct models                                                     name, kernels, slice thickness, target, hash
stan-ct models --export=MODELS.zip [--models=NAME_OR_FOLDER,...]   by default the models that ship
stan-ct models --import=MODELS.zip --output_dir=DIR                DIR/NAME of each, every byte of it compared with its SHA-256

Exit codes: 0 done, 1 bad usage, or models that are missing or not what was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from stan_ct.cli.command import Command, fail


def command() -> Command:
    """The command and its flags."""
    made = Command("models", __doc__ or "")
    with made.group("Flags") as of:
        flags.DEFINE_string("export", "", "Archive to write, .zip.", flag_values=of)
        flags.DEFINE_list("models", [], "Model folders, or names of models that ship, to be packed.", flag_values=of)
        flags.DEFINE_string("import", "", "Archive to unpack.", flag_values=of)
        flags.DEFINE_string("output_dir", "", "Folder for the model folders that are unpacked.", flag_values=of)
    return made


def run(command: Command) -> int:
    """Lists, packs or unpacks."""
    if not (command["export"] or command["import"]):
        return _list()
    from stan_ct.models.archive import export_models, import_models
    from stan_ct.models.folder import shipped_names

    if command["export"] and command["import"]:
        return fail("models", "--export and --import exclude each other")
    if command["import"] and not command["output_dir"]:
        return fail("models", "--import needs --output_dir, the folder for the model folders")
    try:
        if command["export"]:
            return _print(export_models(command["models"] or shipped_names(), Path(command["export"])))
        return _print(import_models(Path(command["import"]), Path(command["output_dir"])))
    except OSError as error:
        return fail("models", str(error))


def _print(hashes: Mapping[str, str]) -> int:
    for name, found in hashes.items():
        print(f"{name}  {found}")
    return 0


def _list() -> int:
    """Prints a line for each model that ships."""
    from stan_ct.models.folder import shipped_models

    rows = [("name", "source kernels", "slice thickness", "target", "hash")]
    for model in shipped_models():
        low, high = model.slice_thickness or (0.0, 0.0)
        thickness = "any" if not high else f"{low:g} mm" if low == high else f"{low:g} to {high:g} mm"
        rows.append((model.name, ", ".join(model.source_kernels), thickness, model.target_kernel, model.hash[:8]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0
