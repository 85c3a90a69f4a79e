"""Makes reports on standardized CT: errors of texture features (paper Eq. 8), concordance, HU; Tables 1 and 2, Figs. 3 - 5.

Any of these, or several, go into one report:

python evaluate.py --records_dir=R --models=NAME=MODEL,NAME=MODEL --output_dir=OUT     Table 1: test patches through every model
python evaluate.py --source_dir=S --synthesized_dir=NAME=DIR --target_dir=T --output_dir=OUT     series that were written
python evaluate.py --source_dir=S --synthesized_dir=DIR --target_dir=T --masks=SEG_OR_NIFTI --output_dir=OUT     regions too
python evaluate.py --source_dir=S --synthesized_dir=DIR --output_dir=OUT     before and after, without a target
python evaluate.py --source_dir=S --target_dir=T --table_2_model=MODEL --output_dir=OUT     Table 2: reconstructs S in each way
python evaluate.py --histories=NAME=MODEL,NAME=MODEL --output_dir=OUT     Figs. 3 and 5: how models were trained

and these stand alone:

python evaluate.py --reader_study --source_dir=S --synthesized_dir=DIR --target_dir=T --output_dir=OUT     a page for readers
python evaluate.py --reader_answers=A.csv,B.csv --reader_key=KEY.json --output_dir=OUT     what the readers found

OUT receives report.html, report.md, report.json, a CSV for each table, figures as PNG and SVG, and evaluate.flags (repeat with
--flagfile=OUT/evaluate.flags). What has been measured is kept in OUT: a run that was stopped goes on where it was.

Exit codes: 0 done, 1 bad usage or nothing to compare, 130 stopped with Ctrl-C.
"""

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from stan_ct import __version__
from stan_ct.cli.command import Command, fail
from stan_ct.errors import NotComparable, StanCTError
from stan_ct.evaluation.measure.pairs import read_instances
from stan_ct.evaluation.measure.patches import Method
from stan_ct.evaluation.measure.regions import RoiSettings
from stan_ct.evaluation.measure.series import Settings
from stan_ct.evaluation.run import Evaluation, evaluate, named
from stan_ct.features.glcm import Discretization
from stan_ct.features.mirp import load_mirp
from stan_ct.parallel import usable_cores
from stan_ct.quiet import quiet_start
from stan_ct.reconstruction.checks import box_artefacts
from stan_ct.report.files import write_report
from stan_ct.report.markdown import summary

FLAGS: Command


def command() -> Command:
    """The command and its flags."""
    made = Command("evaluate", __doc__ or "")
    with made.group("What and where") as of:
        flags.DEFINE_string("output_dir", None, "Where the report goes.", required=True, flag_values=of)
        flags.DEFINE_string("source_dir", None, "DICOM of the source series.", flag_values=of)
        flags.DEFINE_list("synthesized_dir", [], "NAME=DIR, or DIR: DICOM of series made of the source.", flag_values=of)
        flags.DEFINE_string(
            "target_dir", None, "DICOM of the target series: the same scans in the standard protocol.", flag_values=of
        )
        flags.DEFINE_list(
            "masks",
            [],
            "DICOM SEG or NIfTI, files or folders (of patients' folders): features of their regions.",
            flag_values=of,
        )
        flags.DEFINE_multi_string(
            "records_dir", [], "Patch records of data/make_patches.py; may be given several times.", flag_values=of
        )
        flags.DEFINE_list("models", [], "NAME=DIR: model folders, the rows of Table 1.", flag_values=of)
        flags.DEFINE_string(
            "table_2_model", None, "Reconstruct the source with this model in every way of Table 2.", flag_values=of
        )
        flags.DEFINE_list(
            "histories",
            [],
            "NAME=DIR: training folders for Figs. 3 and 5; those of --models are used in any case.",
            flag_values=of,
        )
    with made.group("How to measure") as of:
        flags.DEFINE_enum(
            "features",
            "glcm",
            ["glcm", "mirp"],
            "Texture of regions: co-occurrence; MIRP's runs, zones ... as well.",
            flag_values=of,
        )
        flags.DEFINE_string(
            "only_instances", None, "Text file, one SOP Instance UID a line: the source slices to compare.", flag_values=of
        )
        flags.DEFINE_integer("patch_size", Settings.patch_size, "Side of a patch of a series, pixels.", flag_values=of)
        flags.DEFINE_integer("stride", Settings.stride, "Distance of neighbouring patches of a series, pixels.", flag_values=of)
        flags.DEFINE_float(
            "min_soft_tissue",
            Settings.min_soft_tissue,
            "Part of a series' patch that must be soft tissue, 0 to 1.",
            flag_values=of,
        )
        flags.DEFINE_integer("levels", 256, "Gray levels over the soft-tissue range.", flag_values=of)
        flags.DEFINE_float(
            "bin_width", None, "Gray levels of this many HU instead (IBSI fixed bin size, such as 25).", flag_values=of
        )
        flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which patches of the records.", flag_values=of)
        flags.DEFINE_string(
            "ours", "", "The row that the others are tested against; default: the last, or of Table 2 STAN-CT.", flag_values=of
        )
        flags.DEFINE_string("data", "CT", "What the images are, in words, for the report.", flag_values=of)
        flags.DEFINE_enum(
            "kind",
            None,
            ["real", "simulated"],
            "Whether the images are of people; simulated series say so themselves.",
            flag_values=of,
        )
        flags.DEFINE_integer("resamples", 10_000, "Draws of patients for confidence intervals.", 1, flag_values=of)
        flags.DEFINE_integer("seed", 0, "Of these draws.", flag_values=of)
        flags.DEFINE_integer("workers", 0, "Processes that measure; 0: one for each core.", 0, flag_values=of)
    with made.group("Reader study") as of:
        flags.DEFINE_bool(
            "reader_study",
            False,
            "Write a page on which readers compare source or target with the first synthesized.",
            flag_values=of,
        )
        flags.DEFINE_integer("reader_cases", 20, "Cases of the reader study.", 1, flag_values=of)
        flags.DEFINE_integer("reader_slices", 5, "Slices of a case, neighbours in one series.", 1, flag_values=of)
        flags.DEFINE_integer(
            "reader_seed", None, "Makes the same reader study again; default: drawn, and written in the key.", flag_values=of
        )
        flags.DEFINE_list("reader_answers", [], "CSV files that readers have saved.", flag_values=of)
        flags.DEFINE_string("reader_key", None, "The key file of the reader study.", flag_values=of)
    return made


def run(command: Command) -> int:
    """Evaluates, and returns the exit code."""
    global FLAGS
    FLAGS = command
    output_dir = Path(command["output_dir"])
    try:
        if command["reader_answers"] or command["reader_study"]:
            print(readers(output_dir))
            return 0
        report = evaluate(
            settings_from_flags(), reconstruct, box_artefacts, partial(tqdm, desc="reading headers", unit="file", disable=None)
        )
        write_report(report, output_dir, {"evaluate.flags": command.effective_flags()})
        print(f"{summary(report)}\n\nAll of it: {output_dir / 'report.html'}")
    except (StanCTError, ValueError, OSError) as error:
        return fail("evaluate", error)
    except BrokenProcessPool:
        return fail(
            "evaluate",
            "a worker process was killed, for want of memory perhaps: try fewer --workers; what was measured is kept",
        )
    except KeyboardInterrupt:
        print("evaluate: stopped; what has been measured is kept, run the same command again", file=sys.stderr)
        return 130
    return 0


def readers(output_dir: Path) -> str:
    """The reader study, or what came of it."""
    from stan_ct.evaluation.readers.study import find_answers, make_study

    if FLAGS["reader_answers"]:
        return find_answers(FLAGS["reader_answers"], FLAGS["reader_key"], output_dir)
    page, key = make_study(comparison(), output_dir, FLAGS["reader_cases"], FLAGS["reader_slices"], FLAGS["reader_seed"])
    return f"{page}: give this to the readers\n{key}: keep this to yourself"


def settings_from_flags() -> Evaluation:
    """The flags as settings.

    Raises:
        ValueError: If a value is out of its range, or there is nothing to evaluate.
    """
    models, records = named(FLAGS["models"]), tuple(map(Path, FLAGS["records_dir"]))
    histories = named(FLAGS["histories"]) | {n: d for n, d in models.items() if (d / "history.csv").exists()}
    series = FLAGS["source_dir"] or FLAGS["synthesized_dir"] or FLAGS["target_dir"] or FLAGS["table_2_model"]
    if not (records or models or series or histories):
        raise ValueError("nothing to evaluate: give --records_dir and --models, or --source_dir, or --histories; see --help")
    if bool(models) != bool(records):
        raise ValueError("Table 1 needs both --records_dir and --models")
    if FLAGS["features"] == "mirp" and not FLAGS["masks"]:
        raise ValueError("--features=mirp is of regions: give --masks")
    if FLAGS["table_2_model"] and not FLAGS["target_dir"]:
        raise ValueError("--table_2_model needs --source_dir and --target_dir")
    compared = comparison() if series else None
    methods = tuple(method(name, folder) for name, folder in models.items())
    of_table_2 = {"Table 2": method("", Path(FLAGS["table_2_model"])).sha256} if FLAGS["table_2_model"] else {}
    return Evaluation(
        output_dir=Path(FLAGS["output_dir"]),
        records_dirs=records,
        split=FLAGS["split"],
        methods=methods,
        comparison=compared,
        table_2=bool(FLAGS["table_2_model"]),
        regions=regions() if FLAGS["masks"] else None,
        histories=histories,
        ours=FLAGS["ours"],
        data=FLAGS["data"],
        real=None if FLAGS["kind"] is None else FLAGS["kind"] == "real",
        discretization=discretization(),
        levels_by="number" if FLAGS["bin_width"] is None else "size",
        resamples=FLAGS["resamples"],
        seed=FLAGS["seed"],
        workers=FLAGS["workers"] or usable_cores(),
        command=FLAGS.command_line(),
        flags=FLAGS.effective_flags(),
        models={m.name: m.sha256 for m in methods} | of_table_2,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def discretization() -> Discretization:
    """HU -> gray levels as the flags say."""
    by_size = FLAGS["bin_width"] is not None
    return Discretization.fixed_size(FLAGS["bin_width"]) if by_size else Discretization.fixed_number(FLAGS["levels"])


def regions() -> RoiSettings:
    """Regions of interest as the flags say."""
    if not FLAGS["source_dir"]:
        raise ValueError("--masks are regions of series: give --source_dir and what was made of it")
    if wider := FLAGS["features"] == "mirp":
        load_mirp()  # or refuses, before anything is measured
    width = RoiSettings.bin_width if FLAGS["bin_width"] is None else FLAGS["bin_width"]
    return RoiSettings(tuple(map(Path, FLAGS["masks"])), width, wider=wider)


def comparison() -> Settings:
    """Which series to compare, and how."""
    if not (FLAGS["source_dir"] and (FLAGS["synthesized_dir"] or FLAGS["table_2_model"])):
        raise ValueError("comparing series needs --source_dir, and --synthesized_dir or --table_2_model")
    return Settings(
        source_dir=Path(FLAGS["source_dir"]),
        synthesized=named(FLAGS["synthesized_dir"]),
        target_dir=Path(FLAGS["target_dir"]) if FLAGS["target_dir"] else None,
        patch_size=FLAGS["patch_size"],
        stride=FLAGS["stride"],
        min_soft_tissue=FLAGS["min_soft_tissue"],
        discretization=discretization(),
        only_instances=read_instances(Path(FLAGS["only_instances"])) if FLAGS["only_instances"] else None,
    )


def method(name: str, folder: Path) -> Method:
    """A model folder, or one that ships by its name, as a row of Table 1. TensorFlow is imported here."""
    with quiet_start():
        from stan_ct.models.folder import find_model, model_hash, read_config
    folder = find_model(folder)
    config = read_config(folder)
    front_end = config.front_end.to_json() if config.front_end else {}
    load = match_patches if config.method == "histogram" else load_synthesizer
    return Method(name, model_hash(folder), front_end, partial(load, folder))


def load_synthesizer(folder: Path) -> Callable:
    """What makes patches of patches with a model."""
    with quiet_start():
        from stan_ct.reconstruction import synthesis
    return synthesis.load_synthesizer(folder)


def match_patches(folder: Path) -> Callable:
    """Histogram matching of each patch: `reconstruct.py` matches whole slices, which records do not hold."""
    matching = load_synthesizer(folder)
    return lambda patches: (np.stack([matching.prepare(patch, (1.0, 1.0)) for patch in patches]), np.ones(len(patches)))


def reconstruct(switches: Mapping[str, str], folder: Path) -> Path:
    """Standardizes the source with the model of Table 2; series that the same model has made already are kept."""
    from stan_ct.reconstruction.run import ReconstructSettings
    from stan_ct.reconstruction.run import reconstruct as standardize

    source, model, chosen, note = (
        Path(FLAGS["source_dir"]),
        Path(FLAGS["table_2_model"]),
        dict(switches),
        folder / "made_of.json",
    )
    made_of = json.dumps([__version__, str(source.resolve()), method("", model).sha256, chosen])
    if not (note.exists() and note.read_text() == made_of):
        note.unlink(missing_ok=True)
        fusion, command = chosen.pop("fusion"), FLAGS.command_line()
        request = ReconstructSettings(
            source,
            folder,
            (str(model),),
            fusion=fusion,
            switches=chosen,
            allow_out_of_protocol=True,
            overwrite=True,
            command=command,
        )
        if standardize(request) == 3:
            raise NotComparable(f"nothing was standardized, see {folder / 'report.html'}")
        note.write_text(made_of)
    return folder / "series"
