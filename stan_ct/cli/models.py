"""Lists the models that ship with STAN-CT: name, kernels, slice thickness, target, hash."""

from __future__ import annotations

from stan_ct.cli.command import Command


def command() -> Command:
    """The command and its flags."""
    return Command("models", __doc__ or "")


def run(command: Command) -> int:
    """Prints a line for each model."""
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
