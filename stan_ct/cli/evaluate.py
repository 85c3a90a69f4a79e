"""Makes reports on standardized CT: errors of texture features (paper Eq. 8), concordance, HU; Tables 1 and 2, Figs. 3 - 5.

Any of these, or several, go into one report:

stan-ct evaluate --records_dir=R --models=NAME=MODEL,NAME=MODEL --output_dir=OUT     Table 1: test patches through every model
stan-ct evaluate --source_dir=S --synthesized_dir=NAME=DIR --target_dir=T --output_dir=OUT     series that were written
stan-ct evaluate --source_dir=S --synthesized_dir=DIR --target_dir=T --masks=MASKS --output_dir=OUT     regions too
stan-ct evaluate --source_dir=S --synthesized_dir=DIR --output_dir=OUT     before and after, without a target
stan-ct evaluate --source_dir=S --target_dir=T --table_2_model=MODEL --output_dir=OUT     Table 2: reconstructs S in each way
stan-ct evaluate --histories=NAME=MODEL,NAME=MODEL --output_dir=OUT     Figs. 3 and 5: how models were trained

and these stand alone:

stan-ct evaluate --reader_study --source_dir=S --synthesized_dir=DIR --target_dir=T --output_dir=OUT     a page for readers
stan-ct evaluate --reader_answers=A.csv,B.csv --reader_key=KEY.json --output_dir=OUT     what the readers found

OUT receives report.html, report.md, report.json, a CSV for each table, figures as PNG and SVG, and evaluate.flags (repeat with
--flagfile=OUT/evaluate.flags). Measurements are kept in OUT, so that a run that was stopped
resumes where it stopped.

Exit codes: 0 done, 1 bad usage or nothing to compare, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from stan_ct.cli.command import Command, fail, warn
from stan_ct.errors import StanCTError, UsageError
from stan_ct.parallel import usable_cores

if TYPE_CHECKING:
    from stan_ct.evaluation.measure.regions import RoiSettings
    from stan_ct.evaluation.measure.series import SeriesSettings
    from stan_ct.evaluation.readers.study import StudySettings
    from stan_ct.evaluation.settings import Evaluation
    from stan_ct.features.glcm import Discretization


def command() -> Command:
    """The command and its flags."""
    from stan_ct.evaluation.measure.series import SeriesSettings
    from stan_ct.evaluation.readers.study import StudySettings
    from stan_ct.evaluation.settings import Evaluation

    made = Command("evaluate", __doc__ or "")
    with made.group("What and where") as of:
        flags.DEFINE_string("output_dir", None, "Folder for the report.", required=True, flag_values=of)
        flags.DEFINE_string("source_dir", None, "DICOM of the source series.", flag_values=of)
        flags.DEFINE_list("synthesized_dir", [], "NAME=DIR, or DIR: DICOM of series made of the source.", flag_values=of)
        flags.DEFINE_string(
            "target_dir", None, "DICOM of the target series: the same scans in the standard protocol.", flag_values=of
        )
        flags.DEFINE_list(
            "masks",
            [],
            "DICOM SEG, RTSTRUCT or NIfTI, files or folders (of patients' folders): features of their regions.",
            flag_values=of,
        )
        flags.DEFINE_multi_string(
            "records_dir", [], "Patch records of stan-ct make-patches; may be given several times.", flag_values=of
        )
        flags.DEFINE_list("models", [], "NAME=DIR: model folders, the rows of Table 1.", flag_values=of)
        flags.DEFINE_string("table_2_model", None, "Model that reconstructs the source in each way of Table 2.", flag_values=of)
        flags.DEFINE_list(
            "histories", [], "NAME=DIR: training folders for Figs. 3 and 5; those of --models are always used.", flag_values=of
        )
    with made.group("How to measure") as of:
        flags.DEFINE_enum(
            "features",
            "glcm",
            ["glcm", "mirp"],
            "Texture of regions: co-occurrence, or MIRP's runs, zones ... too.",
            flag_values=of,
        )
        flags.DEFINE_string(
            "only_instances", None, "Text file with a SOP Instance UID per line: the source slices to compare.", flag_values=of
        )
        flags.DEFINE_bool(
            "include_training_slices",
            Evaluation.include_training_slices,
            "Compare slices too that a model was trained on or chosen on.",
            flag_values=of,
        )
        flags.DEFINE_enum(
            "pair_by",
            SeriesSettings.pair_by,
            ["study", "position"],
            "study: slices of one study; position: of any, for series of one scan that were de-identified apart.",
            flag_values=of,
        )
        flags.DEFINE_integer("patch_size", SeriesSettings.patch_size, "Side of a patch of a series, pixels.", flag_values=of)
        flags.DEFINE_integer(
            "stride", SeriesSettings.stride, "Distance between neighbouring patches of a series, pixels.", flag_values=of
        )
        flags.DEFINE_float(
            "min_soft_tissue",
            SeriesSettings.min_soft_tissue,
            "Least share of soft tissue in a patch of a series, 0 to 1.",
            flag_values=of,
        )
        flags.DEFINE_integer("levels", 256, "Number of gray levels over the soft-tissue range.", flag_values=of)
        flags.DEFINE_float(
            "bin_width",
            None,
            "Width of a gray level in HU, instead of --levels (IBSI fixed bin size, such as 25).",
            flag_values=of,
        )
        flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Patches of the records to test.", flag_values=of)
        flags.DEFINE_string(
            "ours", "", "Row that the others are tested against; default: the last one, of Table 2 STAN-CT.", flag_values=of
        )
        flags.DEFINE_string("data", "CT", "What the images are, in words, for the report.", flag_values=of)
        flags.DEFINE_enum(
            "kind",
            None,
            ["real", "simulated"],
            "Whether the images are of people; simulated series are recognized.",
            flag_values=of,
        )
        flags.DEFINE_integer(
            "resamples", Evaluation.resamples, "Bootstrap samples of patients for confidence intervals.", 1, flag_values=of
        )
        flags.DEFINE_integer("seed", Evaluation.seed, "Seed of the bootstrap.", flag_values=of)
        flags.DEFINE_integer("workers", 0, "Number of processes that measure; 0: one per core.", 0, flag_values=of)
    with made.group("Reader study") as of:
        flags.DEFINE_bool(
            "reader_study",
            False,
            "Write a page on which readers compare source or target with the first synthesized.",
            flag_values=of,
        )
        flags.DEFINE_integer(
            "reader_cases", StudySettings.cases, "Largest number of cases of the reader study.", 1, flag_values=of
        )
        flags.DEFINE_integer(
            "reader_slices", StudySettings.slices, "Neighbouring slices of one series that make a case.", 1, flag_values=of
        )
        flags.DEFINE_integer(
            "reader_repeats",
            StudySettings.repeats,
            "Cases shown again, sides swapped: a reader's own agreement.",
            0,
            flag_values=of,
        )
        flags.DEFINE_integer(
            "reader_catch_trials", StudySettings.catch_trials, "Cases shown again, one image on both sides.", 0, flag_values=of
        )
        flags.DEFINE_integer(
            "reader_seed",
            None,
            "Seed that makes the same reader study again; default: random, and kept in the key.",
            flag_values=of,
        )
        flags.DEFINE_list("reader_answers", [], "CSV files that readers saved from the page.", flag_values=of)
        flags.DEFINE_string("reader_key", None, "Key file of the reader study.", flag_values=of)
    return made


def run(command: Command) -> int:
    """Evaluates, and returns the exit code."""
    from stan_ct.dicom.apart import check_apart
    from stan_ct.evaluation.readers.study import make_study, summarize_answers
    from stan_ct.evaluation.run import evaluate
    from stan_ct.evaluation.sections import warnings_of
    from stan_ct.evaluation.settings import named_directories
    from stan_ct.report.files import write_report
    from stan_ct.report.markdown import summary

    output_dir = Path(command["output_dir"])
    try:
        trees = [command["source_dir"], command["target_dir"], *named_directories(command["synthesized_dir"]).values()]
        check_apart(output_dir, filter(None, trees))
        if command["reader_answers"]:
            print(summarize_answers(command["reader_answers"], command["reader_key"], output_dir))
        elif command["reader_study"]:
            series, warnings = _unseen(_series(command), command["include_training_slices"])
            page, key = make_study(series, output_dir, _study(command))
            for warning in warnings:
                warn("evaluate", warning)
            print(f"{page}: give this to the readers\n{key}: keep this to yourself")
        else:
            report = evaluate(_evaluation(command), partial(tqdm, disable=None))
            write_report(report, output_dir, {"evaluate.flags": command.effective_flags()})
            for warning in warnings_of(report):
                warn("evaluate", warning)
            print(f"{summary(report)}\n\nAll of it: {output_dir / 'report.html'}")
    except (StanCTError, ValueError, OSError) as error:
        return fail("evaluate", error)
    except BrokenProcessPool:
        return fail(
            "evaluate", "a worker was killed, for lack of memory perhaps: try fewer --workers; what was measured is kept"
        )
    except KeyboardInterrupt:
        print("evaluate: stopped; what has been measured is kept, run the same command again", file=sys.stderr)
        return 130
    return 0


def _evaluation(command: Command) -> Evaluation:
    from stan_ct.evaluation.settings import Evaluation, named_directories

    models = named_directories(command["models"])
    series = command["source_dir"] or command["synthesized_dir"] or command["target_dir"] or command["table_2_model"]
    return Evaluation(
        output_dir=Path(command["output_dir"]),
        records_dirs=tuple(map(Path, command["records_dir"])),
        models=models,
        split=command["split"],
        series=_series(command) if series else None,
        table_2_model=Path(command["table_2_model"]) if command["table_2_model"] else None,
        regions=_regions(command),
        histories=named_directories(command["histories"]) | {n: d for n, d in models.items() if (d / "history.csv").exists()},
        ours=command["ours"],
        include_training_slices=command["include_training_slices"],
        data=command["data"],
        real=None if command["kind"] is None else command["kind"] == "real",
        discretization=_discretization(command),
        resamples=command["resamples"],
        seed=command["seed"],
        workers=command["workers"] or usable_cores(),
        command=command.command_line(),
        flags=command.effective_flags(),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _discretization(command: Command) -> Discretization:
    from stan_ct.features.glcm import Discretization

    by_size = command["bin_width"] is not None
    return Discretization.fixed_size(command["bin_width"]) if by_size else Discretization.fixed_number(command["levels"])


def _regions(command: Command) -> RoiSettings | None:
    from stan_ct.evaluation.measure.regions import RoiSettings
    from stan_ct.features.mirp import load_mirp

    if command["features"] == "mirp":
        if not command["masks"]:
            raise UsageError("--features=mirp is of regions: give --masks")
        load_mirp()  # or refuses, before anything is measured
    width = RoiSettings.bin_width if command["bin_width"] is None else command["bin_width"]
    return (
        RoiSettings(tuple(map(Path, command["masks"])), width, mirp=command["features"] == "mirp") if command["masks"] else None
    )


def _series(command: Command) -> SeriesSettings:
    from stan_ct.evaluation.measure.pairs import read_instances
    from stan_ct.evaluation.measure.series import SeriesSettings
    from stan_ct.evaluation.settings import named_directories

    if not command["source_dir"]:
        raise UsageError("comparing series needs --source_dir, and --synthesized_dir or --table_2_model")
    return SeriesSettings(
        source_dir=Path(command["source_dir"]),
        synthesized=named_directories(command["synthesized_dir"]),
        target_dir=Path(command["target_dir"]) if command["target_dir"] else None,
        patch_size=command["patch_size"],
        stride=command["stride"],
        min_soft_tissue=command["min_soft_tissue"],
        discretization=_discretization(command),
        only_instances=read_instances(Path(command["only_instances"])) if command["only_instances"] else None,
        pair_by=command["pair_by"],
    )


def _unseen(series: SeriesSettings, include: bool) -> tuple[SeriesSettings, list[str]]:
    """The series of a reader study without the slices that models were trained on, and warnings."""
    from stan_ct.evaluation.measure.pairs import read_headers
    from stan_ct.evaluation.measure.training_slices import without_training_slices

    return without_training_slices(series, read_headers(series.source_dir, "source"), {}, include)


def _study(command: Command) -> StudySettings:
    from stan_ct.evaluation.readers.study import StudySettings

    return StudySettings(
        command["reader_cases"],
        command["reader_slices"],
        command["reader_repeats"],
        command["reader_catch_trials"],
        command["reader_seed"],
    )
