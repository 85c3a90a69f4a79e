"""The paper's experiment, from raw data to its tables and claims: `make reproduce SCALE=smoke`.

python benchmarks/reproduce.py --scale=smoke|ablation|laptop|paper --output_dir=OUT
                               [--data=..] [--real=CT] [--rows=..] [--seeds=..]

simulates patients, cuts patches, trains every row of Table 1 with the same number of patches, steps of G, and filters, each
with several seeds, tests them on the test patients' patches, reconstructs the test patients in each way of Table 2, and writes

OUT/results      report: means with 95 % intervals over seeds and patients, differences from the best row without networks
OUT/claims.md    what the paper says, and whether it is so here: yes, no, not told apart
OUT/results/flags    the flags that made each row

The flags of a scale are the presets reproduce/<scale>_*. --real=CT adds two real pairs, Philips (CT/pair_philips_5mm) and
Toshiba (CT/pair_toshiba_phantom). --list prints the rows; --rows, --seeds and --data choose among them. What is finished is
kept, and the tables show all that is, so that a long run can be divided; with --train_only nothing is tested. A run that was
stopped goes on where it was.

smoke takes minutes and shows that everything runs; ablation is 3 mm to 1 mm and the real pairs, with and without the parts
of our row; laptop is docs/RESULTS.md; paper needs a machine with GPUs and some days.

Exit codes: 0 done; 1 bad usage; else that of the first command that failed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduction import rows, written
from reproduction.claims import Claim, claims_of
from reproduction.data_sets import DEFAULT, REAL, SIMULATED, STANDARD, DataSet, data_sets, input_of, link_test_series
from reproduction.made_with import flag_files
from reproduction.page import claims_text, report
from reproduction.results import Results, measure
from reproduction.rows import Row
from reproduction.steps import Steps

from stan_ct.evaluation.table_1 import model_sha256
from stan_ct.files import write_together
from stan_ct.parallel import usable_cores
from stan_ct.report.files import write_report

SEEDS = {"smoke": "0,1", "ablation": "0,1,2", "laptop": "0,1,2", "paper": "0,1,2"}
"""Seeds of a scale, unless others are chosen."""

ROWS = {"smoke": rows.SMOKE_ROWS, "ablation": rows.ABLATION_ROWS}
"""Rows of a scale, unless others are chosen; all of them where nothing is said."""

Seed = int | None
"""Seed of a model; None of a row that is not trained."""


@dataclass(frozen=True)
class Choice:
    """What was asked for.

    Attributes:
        scale: `smoke`, `laptop` or `paper`.
        folder: Where everything goes.
        rows: Rows to train.
        seeds: Seeds to train them with.
        data: Data sets.
        ct: Real CT, or None.
    """

    scale: str
    folder: Path
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    data: tuple[DataSet, ...]
    ct: Path | None = None

    def models(self) -> Iterator[tuple[DataSet, Row, Seed]]:
        """Every model to train: all rows with the first seed, then all with the next."""
        for seed in self.seeds:
            for data in self.data:
                for row in self.rows:
                    if row.seeded or seed == self.seeds[0]:
                        yield data, row, seed if row.seeded else None

    def plan(self) -> dict[str, str]:
        """Steps that can be known beforehand, and their kinds."""
        made = {data.patients_step: "patients" for data in self.data if not data.real}
        made |= {f"{data.name}/records": "records" for data in self.data}
        return made | {model_name(data, row, seed): f"train {row.folder}" for data, row, seed in self.models()}


def model_name(data: DataSet, row: Row, seed: Seed) -> str:
    """Name of the step that trains a row."""
    return f"{data.name}/models/{row.folder}" + ("" if seed is None else f"-{seed}")


class Experiment:
    """The steps of the experiment.

    Args:
        choice: What was asked for.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice, self.steps = choice, Steps(choice.folder, choice.plan())

    def patients(self, data: DataSet) -> Path:
        """Simulates the patients of a data set."""
        return self.steps(data.patients_step, "simulate", f"--preset=reproduce/{self.choice.scale}_patients", *data.patients)

    def records(self, data: DataSet) -> Path:
        """Cuts the patches of a data set."""
        patients = self.choice.folder if data.real else self.patients(data)
        series = input_of(data, patients, self.choice.ct, self.choice.folder)
        after = () if data.real else (data.patients_step,)
        return self.steps(f"{data.name}/records", "make-patches", *data.patches, f"--input_dir={series}", after=after)

    def train(self) -> None:
        """Trains what was chosen; what is finished is kept."""
        for data in self.choice.data:
            self.records(data)
        for data, row, seed in self.choice.models():
            self.steps(model_name(data, row, seed), "train", *self._training(data, row, seed), after=(f"{data.name}/records",))

    def finished(self, data: DataSet) -> dict[str, dict[Seed, Path]]:
        """Row -> seed -> folder of every model that is finished, chosen now or not."""
        found: dict[str, dict[Seed, Path]] = {}
        for row in rows.ROWS.values():
            for seed in _seeds_on_disk(self.choice.folder / data.name / "models", row):
                name = model_name(data, row, seed)
                if self.steps.done(name, "train", *self._training(data, row, seed), after=(f"{data.name}/records",)):
                    found.setdefault(row.name, {})[seed] = self.choice.folder / name
        return found

    def _training(self, data: DataSet, row: Row, seed: Seed) -> tuple[str, ...]:
        seeded = () if seed is None else (f"--seed={seed}",)
        records = self.choice.folder / data.name / "records"
        return (*row.flags(self.choice.scale), *seeded, f"--name={row.name}", f"--records_dir={records}")

    def test(self) -> tuple[list[Results], dict[str, list[Claim]], dict[str, str]]:
        """Measures what is finished; returns rows of every test, claims by heading, and the hashes of the models."""
        results: list[Results] = []
        claims: dict[str, list[Claim]] = {}
        hashes: dict[str, str] = {}
        for data in self.choice.data:
            models = self.finished(data)
            cache = self.choice.folder / data.name / "table_1" / "measured"
            self._detailed(data, models)
            found = measure(data.short, self.choice.folder / data.name / "records", models, cache, usable_cores())
            results += found
            claims |= {one.title: claims_of(one) for one in found}
            claims[f"training, {data.name}"] = list(_of_training(models))
            hashes |= {
                f"{data.name}, {row}, seed {seed}": model_sha256(folder)
                for row, folders in models.items()
                for seed, folder in folders.items()
            }
            if data.name == "1mm":
                claims |= self._series(models)
        return results, claims, hashes

    def _detailed(self, data: DataSet, models: dict[str, dict[Seed, Path]]) -> None:
        """The report of `stan-ct evaluate` on the first seed of the rows of Table 1."""
        first = {row: next(iter(models[row].values())) for row in rows.TABLE_1 if row in models}
        if first:
            named = ",".join(f"{row}={folder}" for row, folder in first.items())
            ours = rows.OURS if rows.OURS in first else list(first)[-1]
            about = ("--kind=real",) if data.real else ("--kind=simulated",)
            after = [str(folder.relative_to(self.choice.folder)) for folder in first.values()]
            given = (f"--records_dir={self.choice.folder / data.name / 'records'}", f"--models={named}", f"--ours={ours}")
            self.steps(f"{data.name}/table_1", "evaluate", *given, f"--data={data.described}", *about, after=after)

    def _series(self, models: dict[str, dict[Seed, Path]]) -> dict[str, list[Claim]]:
        """Table 2 of every kernel, with the first seed of our row; its claims."""
        if not {rows.OURS, rows.FILTER} <= models.keys():
            return {}
        folder, found = self.choice.folder, {}
        written_by = {row: str(next(iter(models[row].values()))) for row in (rows.FILTER, rows.OURS)}
        written_by |= {} if self.choice.scale == "smoke" else {rows.SHIPPED: "default"}
        target = link_test_series(folder / "patients", STANDARD, folder)
        index = json.loads((folder / "1mm" / "records" / "index.json").read_text())
        for kernel in index["settings"]["source_kernels"]:
            source, made, names = link_test_series(folder / "patients", kernel, folder), {}, []
            for row, model in written_by.items():
                name = f"1mm/series/{kernel}/{Path(model).name}"
                after = (str(Path(model).relative_to(folder)),) if Path(model).is_absolute() else ()
                given = (f"--input_dir={source}", f"--model={model}", "--allow_out_of_protocol")  # whatever the guard says
                made[row] = self.steps(name, "reconstruct", *given, after=after)
                names.append(name)
            synthesized = ",".join(f"{row}={path / 'series'}" for row, path in made.items())
            given = (f"--source_dir={source}", f"--target_dir={target}", f"--synthesized_dir={synthesized}")
            table = (*given, f"--table_2_model={written_by[rows.OURS]}", "--data=simulated patients", "--kind=simulated")
            page = self.steps(f"1mm/table_2_{kernel}", "evaluate", *table, after=names)
            units = written.units_claim(written.measure_ways(source, target, page, usable_cores()))
            found[f"written DICOM, {kernel}"] = [units, *written.written_claims(page, list(made))]
        return found


def _of_training(models: dict[str, dict[Seed, Path]]) -> Iterator[Claim]:
    """Claims of Figs. 3 and 5."""
    for row, folders in models.items():
        seeded = {seed: folder for seed, folder in folders.items() if seed is not None}
        if seeded:
            yield written.first_versions_claim(row, seeded)
    if rows.PAPER in models:
        yield written.latent_claim(
            rows.PAPER, {seed: folder for seed, folder in models[rows.PAPER].items() if seed is not None}
        )


def _seeds_on_disk(folder: Path, row: Row) -> list[Seed]:
    """Seeds with which a row has been trained, in order."""
    if not row.seeded:
        return [None]
    names = (path.name.removeprefix(f"{row.folder}-") for path in folder.glob(f"{row.folder}-*"))
    return [*sorted(int(name) for name in names if name.isdigit())]


def reproduce(choice: Choice, command: str, train_only: bool = False) -> None:
    """All of it."""
    experiment = Experiment(choice)
    experiment.train()
    if train_only:
        return
    results, claims, hashes = experiment.test()
    folder, shown = choice.folder / "results", {row for each in results for row in each.rows}
    write_report(report(choice.scale, results, claims, hashes, command), folder)
    made_by = [row for row in rows.ROWS.values() if row.name in shown]
    write_together(folder / "flags", flag_files(choice.scale, made_by, choice.data))
    text = claims_text(claims)
    (choice.folder / "claims.md").write_text(text)
    print(f"\n{text}\nReport: {folder / 'report.html'}; claims: {choice.folder / 'claims.md'}")


def parse(arguments: Sequence[str] | None = None) -> tuple[Choice, bool]:
    """Reads the command line: what was asked for, and whether to train only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SEEDS), default="smoke")
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--rows", help="rows to train, by name, with commas between them; all by default")
    parser.add_argument("--seeds", help="seeds to train them with; 0,1,2 by default, 0,1 for smoke")
    parser.add_argument(
        "--data",
        help=f"data sets of {', '.join(SIMULATED + REAL)}; {', '.join(DEFAULT)} by default, and with --real the real ones",
    )
    parser.add_argument("--real", type=Path, metavar="CT", help="folder of real CT")
    parser.add_argument("--train_only", action="store_true", help="train, and test nothing")
    parser.add_argument("--list", action="store_true", help="print the rows and their flags")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(f"{name:40} {' '.join(row.flags(given.scale))}" for name, row in rows.ROWS.items()))
        sys.exit(0)
    if given.output_dir is None:
        parser.error("--output_dir is missing")
    default = ROWS.get(given.scale, tuple(rows.ROWS))
    names = [name.strip() for name in given.rows.split(",")] if given.rows else default
    known = data_sets(given.scale)
    simulated = ("3mm",) if given.scale == "ablation" else DEFAULT
    chosen = given.data.split(",") if given.data else [*simulated, *(REAL if given.real else ())]
    for given_names, there in ((names, list(rows.ROWS)), (chosen, list(known))):
        for name in given_names:
            if name not in there:
                parser.error(f"{name!r} is none of {', '.join(there)}")
    if set(chosen) & set(REAL) and given.real is None:
        parser.error(f"{', '.join(sorted(set(chosen) & set(REAL)))}: give the folder of real CT, --real=CT")
    seeds = tuple(int(seed) for seed in (given.seeds or SEEDS[given.scale]).split(","))
    made = tuple(rows.ROWS[name] for name in names), seeds, tuple(known[name] for name in chosen)
    return Choice(
        given.scale, given.output_dir.resolve(), *made, given.real.resolve() if given.real else None
    ), given.train_only


def main() -> None:
    """Reads the command line and runs the experiment."""
    choice, train_only = parse()
    reproduce(choice, shlex.join(["python", "benchmarks/reproduce.py", *sys.argv[1:]]), train_only)


if __name__ == "__main__":
    main()
