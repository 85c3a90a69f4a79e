"""The paper's experiment, from raw data to its tables and figures, on simulated patients: `make reproduce SCALE=smoke`.

python benchmarks/reproduce.py --scale=smoke|laptop|paper --output_dir=OUT

simulates patients, cuts patches, trains every row of Table 1 with the same number of patches, steps of G, and filters, tests
them on the test patients' patches (Table 1), reconstructs the test patients in each way of Table 2, and writes OUT/table_1,
OUT/table_2_<kernel> (reports) and OUT/claims.md: what the paper says, and whether it is so here. The flags of a scale are
data/flags/reproduce/<scale>_*.flags. A run that was stopped goes on where it was.

smoke takes minutes and shows that everything runs; laptop is docs/RESULTS.md; paper needs a machine with GPUs and some days.

Exit codes: 0 done; else that of the first script that failed.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from stan_ct.features.glcm import FEATURES
from stan_ct.reconstruction.settings import PAPER_ROWS

ROOT = Path(__file__).resolve().parents[1]
PRESETS = {
    "U-Net": "unet",
    "cGAN": "cgan",
    "GANai": "ganai",
    "STAN-CT without L_lat": "stan_ct_no_lat",
    "STAN-CT without L_feat": "stan_ct_no_feat",
    "STAN-CT": "authors",
    "STAN-CT with front end": "default",
}
"""Row of Table 1 -> its flagfile."""
OF_ITS_OWN = {"ganai": ("--num_copies=2",)}
"""What a preset keeps whatever the scale says: GANai's net trains against its own past, which takes a second copy."""
CLASSICAL = {"histogram matching": "histogram", "radial filter": "kernel_filter"}
"""Row of Table 1 -> its method."""
OURS, PAPER, FILTER, SHIPPED = "STAN-CT with front end", "STAN-CT", "radial filter", "the model that ships"
WRITTEN = "written_dicom"
"""Subject of the tables of series in the keys of a report."""
Tables = dict[str, dict[str, dict[str, float]]]
"""Key of a table -> row -> column -> number."""
ALLOW = "--allow_out_of_protocol"  # it is to be measured, whatever the guard says


class Steps:
    """Runs scripts, each once: what is done, by the same command, is not done again.

    Args:
        folder: Where everything goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, script: str, *arguments: str) -> Path:
        """Runs a script with `--output_dir=OUT/name`; returns that folder."""
        output, note = self.folder / name, self.folder / "done" / f"{name.replace('/', '-')}.json"
        command = [script, *arguments, f"--output_dir={output}"]
        told = json.dumps(command)
        if note.exists() and note.read_text() == told:
            return output
        print(f"\n== {name}\n{' '.join(command)}", flush=True)
        begun = note.with_suffix(".begun")
        if begun.exists() and begun.read_text() != told:
            shutil.rmtree(output, ignore_errors=True)  # of other flags
        note.parent.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        begun.write_text(told)
        code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        if code:
            sys.exit(code)
        note.write_text(told)
        return output


def reproduce(scale: str, folder: Path) -> None:
    """All of it."""
    run, flags = Steps(folder), f"data/flags/reproduce/{scale}"
    patients = run("patients", "data/simulate.py", f"--flagfile={flags}_patients.flags")
    records = run("records", "data/make_patches.py", f"--flagfile={flags}_patches.flags", f"--input_dir={patients}")
    models = {}
    for row, method in CLASSICAL.items():
        models[row] = run(f"models/{method}", "train.py", f"--method={method}", f"--name={row}", f"--records_dir={records}")
    for row, preset in PRESETS.items():
        chosen = (f"--flagfile=data/flags/{preset}.flags", f"--flagfile={flags}_train.flags", *OF_ITS_OWN.get(preset, ()))
        models[row] = run(f"models/{preset}", "train.py", *chosen, f"--name={row}", f"--records_dir={records}")
    rows = ",".join(f"{row}={model}" for row, model in models.items())
    about = ("--data=simulated patients", "--kind=simulated")
    table_1 = run("table_1", "evaluate.py", f"--records_dir={records}", f"--models={rows}", f"--ours={OURS}", *about)
    source_kernels = json.loads((records / "index.json").read_text())["settings"]["source_kernels"]
    target = series_of(patients, "BL64", folder)
    tables_2 = {}
    for kernel in source_kernels:
        source = series_of(patients, kernel, folder)
        made = {}
        written = {row: str(models[row]) for row in (FILTER, OURS)} | ({} if scale == "smoke" else {SHIPPED: "default"})
        for row, model in written.items():
            name = f"series/{kernel}/{Path(model).name}{'_shipped' if row == SHIPPED else ''}"
            made[row] = run(name, "reconstruct.py", f"--input_dir={source}", f"--model={model}", ALLOW)
        synthesized = ",".join(f"{row}={path / 'series'}" for row, path in made.items())
        given = (f"--source_dir={source}", f"--target_dir={target}", f"--synthesized_dir={synthesized}")
        tables_2[kernel] = run(f"table_2_{kernel}", "evaluate.py", *given, f"--table_2_model={models[OURS]}", *about)
    text = claims(table_1, tables_2, models, source_kernels)
    (folder / "claims.md").write_text(text)
    print(f"\n{text}\nReports: {table_1}, {', '.join(map(str, tables_2.values()))}; what was asked: {folder / 'claims.md'}")


def series_of(patients: Path, kernel: str, folder: Path) -> Path:
    """A folder with the 1 mm series of every test patient in one kernel, as links."""
    links = folder / "test" / kernel
    links.mkdir(parents=True, exist_ok=True)
    for series in sorted(patients.glob(f"test/*/{kernel}_1mm")):
        link = links / series.parent.name
        if not link.is_symlink():
            link.symlink_to(series.resolve(), target_is_directory=True)
    return links


def claims(table_1: Path, tables_2: dict[str, Path], models: dict[str, Path], kernels: list[str]) -> str:
    """What the paper says and what was asked of us, and whether it is so here, as Markdown."""
    reports = {"table 1": read_tables(table_1)} | {kernel: read_tables(folder) for kernel, folder in tables_2.items()}
    errors = {kernel: reports["table 1"][f"errors_{patches_of(kernel)}"] for kernel in kernels}
    lines = ["| what is said | here |", "|---|---|"]
    for kernel, asked in (("BL57", 5), ("BR40", 4)):
        if kernel in errors:
            won = wins(errors[kernel], PAPER, "GANai")
            lines.append(f"| {kernel}: STAN-CT below GANai in {asked} of 5 features | {answer(won >= asked)}, in {won} |")
    for row in ("STAN-CT without L_lat", "STAN-CT without L_feat"):
        won = {kernel: wins(errors[kernel], PAPER, row) for kernel in kernels}
        told = ", ".join(f"{kernel} {n} of 5" for kernel, n in won.items())
        lines.append(f"| STAN-CT below {row} | {answer(all(n > 2 for n in won.values()))}: {told} |")
    for kernel in tables_2:
        written = reports[kernel][f"errors_{WRITTEN}"]
        contrast = [written[row]["contrast"] for row in PAPER_ROWS]
        falls = all(a > b for a, b in pairwise(contrast))
        told = " → ".join(f"{c:.3f}" for c in contrast)
        lines.append(
            f"| {kernel}: each quality control unit lowers the contrast error (paper: .727 → .201) | {answer(falls)}: {told} |"
        )
    lines.append(f"| The first version of G is better than the source (Fig. 3) | {first_versions(models)} |")
    lines.append(f"| Latent loss falls in G-phases alone (Fig. 5) | {latent(models[PAPER] / 'history.csv')} |")
    for kernel in kernels:
        lines += goals(f"{kernel}, test patches, {OURS}", reports["table 1"], patches_of(kernel), OURS)
        for row in (OURS, SHIPPED):
            lines += goals(f"{kernel}, written DICOM, {row}", reports[kernel], WRITTEN, row)
    return "\n".join(lines) + "\n"


def goals(title: str, tables: Tables, subject: str, row: str) -> list[str]:
    """Goals of a row: errors, concordance, bias; empty if the row is not in the report."""
    errors = tables[f"errors_{subject}"]
    if row not in errors:
        return []
    mine = [errors[row][feature] for feature in FEATURES]
    best = sum(all(errors[row][f] <= other.get(f, float("inf")) for other in errors.values()) for f in FEATURES)
    share = next(iter(tables[f"concordance_{subject}"][row].values()))
    biases = {k: v for k, v in tables[f"hu_{subject}"][row].items() if "bias" in k}
    numbers = " ".join(f"{value:.3f}" for value in mine)
    told = ", ".join(f"{name.removeprefix('bias, ')} {value:+.1f}" for name, value in biases.items())
    return [
        f"| {title}: errors ≤ 0.03 | {answer(max(mine) <= 0.03)}: {numbers}; lowest row in {best} of 5 |",
        f"| {title}: CCC ≥ 0.85 for ≥ 95 % of features | {answer(share >= 0.95)}: {share:.0%} |",
        f"| {title}: bias ≤ 2 HU in every tissue | {answer(max(map(abs, biases.values())) <= 2)}: {told} |",
    ]


def read_tables(report: Path) -> Tables:
    """Key -> row -> column -> mean, of the tables of a report (`report.json`)."""
    sections = json.loads((report / "report.json").read_text())["sections"]
    return {
        table["key"]: {
            row: {column: number(cell["mean"]) for column, cell in cells.items()} for row, cells in table["rows"].items()
        }
        for table in sections
        if table["kind"] == "table"
    }


def number(value: float | str | None) -> float:
    """A number of `report.json`, in which null is NaN."""
    return float("nan") if value is None else float(value)


def patches_of(kernel: str) -> str:
    """Subject of the tables of test patches in the keys of a report."""
    return f"{kernel.lower()}_to_bl64"


def wins(rows: dict[str, dict[str, float]], one: str, other: str) -> int:
    """In how many features one row has the lower error."""
    return sum(rows[one][feature] < rows[other][feature] for feature in FEATURES)


def first_versions(models: dict[str, Path]) -> str:
    """Validation errors of the source, of the first version and of the best one, for each trained row."""
    told = []
    for row in PRESETS:
        with (models[row] / "validation.csv").open() as file:
            found = [float(line["error"]) for line in csv.DictReader(file)]
        told.append(f"{row} {found[0]:.3f} → {found[1]:.3f} (best {min(found[1:]):.3f})")
    return "; ".join(told)


def latent(history: Path) -> str:
    """Mean change of the latent loss on a fixed validation batch over the phases of each kind."""
    phases: dict[tuple[str, str], list[float]] = {}
    with history.open() as file:
        for line in csv.DictReader(file):
            if line["latent_validation"]:
                phases.setdefault((line["phases"], line["phase"]), []).append(float(line["latent_validation"]))
    changes: dict[str, list[float]] = {"g": [], "d": []}
    for (_, kind), values in phases.items():
        changes[kind].append(values[-1] - values[0])
    mean = {kind: sum(values) / len(values) if values else 0.0 for kind, values in changes.items()}
    return (
        f"{answer(mean['g'] < 0 <= mean['d'] + 1e-9)}: mean change {mean['g']:+.2g} in a G-phase, {mean['d']:+.2g} in a D-phase"
    )


def answer(yes: bool) -> str:
    """Yes or no."""
    return "yes" if yes else "**no**"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("smoke", "laptop", "paper"), default="smoke")
    parser.add_argument("--output_dir", type=Path, required=True)
    chosen = parser.parse_args()
    reproduce(chosen.scale, chosen.output_dir.resolve())


if __name__ == "__main__":
    main()
