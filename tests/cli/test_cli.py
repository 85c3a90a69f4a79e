"""The command `stan-ct`, as people type it."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from absl import flags as absl_flags
from synthetic import random_stored, write_ct

import stan_ct
from stan_ct.cli.command import Command
from stan_ct.cli.main import COMMANDS, main
from stan_ct.cli.preset_files import expand, preset_names
from stan_ct.cli.streams import PlainText, Unbreakable, prepare_streams, release_streams
from stan_ct.ct.filters import FrontEnd, RadialFilter
from stan_ct.errors import UsageError
from stan_ct.models.config import ModelConfig
from stan_ct.models.folder import save_model

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "reconstruct": "reconstruct.py",
    "train": "train.py",
    "evaluate": "evaluate.py",
    "make-patches": "data/make_patches.py",
    "simulate": "data/simulate.py",
    "fit-kernel": "data/fit_kernel.py",
    "adapt": "adapt.py",
}


def run(*arguments: object, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    """Runs `python -m stan_ct` with this checkout's package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stan_ct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, **options)


def children_seconds() -> float:
    """Processor time of the children that have ended, which other programs do not lengthen, as they do the clock's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def greeting() -> Command:
    """A small command."""
    made = Command("greet", "Greets.", ("name",))
    with made.group("Who") as of:
        absl_flags.DEFINE_string("name", None, "Whom to greet.", required=True, flag_values=of)
    with made.group("How") as of:
        absl_flags.DEFINE_enum("tone", "warm", ["warm", "cool"], "Tone.", flag_values=of)
        absl_flags.DEFINE_integer("times", 1, "Times.", 1, flag_values=of)
        absl_flags.DEFINE_bool("loud", False, "Loudly.", flag_values=of)
    return made


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_no_error(name, flag, capsys):
    """Every command prints its help on standard output with exit code 0, whatever else is missing."""
    assert main([name, flag]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"stan-ct {name}")
    assert printed.err == ""


def test_help_lists_commonest_first_and_the_papers_switches_last():
    """Groups in the order of a user's questions, defaults shown, one entry per flag."""
    from stan_ct.cli import reconstruct, train

    text = reconstruct.command().usage()
    assert text.index("--input_dir") < text.index("--model") < text.index("--fusion") < text.index("--seed")
    assert "Default: stan_ct." in text
    text = train.command().usage()
    assert (
        text.index("--records_dir=") < text.index("--max_minutes=X") < text.index("--learning_rate") < text.index("--theta_d")
    )
    assert text.count("--adversarial_weight=") == 1


def test_help_of_reconstruct_is_quick():
    """No TensorFlow, no pydicom, half a second of processor time (twice that for a slow machine)."""
    done = run("reconstruct", "--help")
    assert done.returncode == 0
    seconds = []
    for _ in range(3):
        before = children_seconds()
        run("reconstruct", "--help")
        seconds.append(children_seconds() - before)
    assert 0 < min(seconds) < 1.0
    code = (
        "import sys; from stan_ct.cli.main import main; main(['reconstruct', '--help']); "
        "heavy = {'tensorflow', 'pydicom', 'numpy', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    checked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0, checked.stderr


def test_version_tells_what_a_bug_report_needs():
    """STAN-CT, Python, platform, packages and models, without loading TensorFlow."""
    text = run("--version").stdout
    for word in (f"STAN-CT {stan_ct.__version__}", "Python 3", "tensorflow 2", "pydicom 3", "usable cores", "model default "):
        assert word in text


def test_models_lists_what_ships(capsys):
    """Name, kernels, slice thickness, target and hash of each model."""
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "source", "kernels", "slice", "thickness", "target", "hash"]
    assert [line.split()[0] for line in lines[1:]] == ["default", "philips_b_l", "thin"]
    assert "BR40, BL57" in lines[1]
    assert "5 mm" in lines[2]


@pytest.mark.parametrize(("typed", "said"), [("reconstuct", "did you mean reconstruct?"), ("xyz", "stan-ct --help")])
def test_an_unknown_command_names_the_nearest(typed, said, capsys):
    """Exit code 1 and a hint."""
    assert main([typed]) == 1
    assert said in capsys.readouterr().err


def test_commands_have_flags_of_their_own():
    """Two commands with a flag of one name live in one process, and none is defined in absl's global flags."""
    first, second = greeting(), greeting()
    first.parse(["Ann", "--times=2"])
    second.parse(["Bob"])
    assert (first["name"], first["times"], second["name"], second["times"]) == ("Ann", 2, "Bob", 1)
    for name in COMMANDS:
        from importlib import import_module

        import_module(f"stan_ct.cli.{name.replace('-', '_')}").command()
    assert not {"records_dir", "input_dir", "fusion"} & set(absl_flags.FLAGS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--name is missing"),
        (["Ann", "--tmes=2"], "did you mean --times?"),
        (["Ann", "--times=0"], "times"),
        (["Ann", "--tone=hot"], "warm|cool"),
        (["Ann", "Bob"], "unexpected argument 'Bob': expected at most NAME without a name"),
        (["Ann", "--preset=papr"], "did you mean paper?"),
        (["Ann", "--flagfile=nowhere"], "nowhere is not a file"),
    ],
)
def test_bad_usage_is_named(arguments, said):
    """What came, what was meant."""
    with pytest.raises(UsageError) as caught:
        greeting().parse(arguments)
    assert said in str(caught.value).replace("warm, cool", "warm|cool").replace("'warm', 'cool'", "warm|cool")


@pytest.mark.parametrize("arguments", [["Ann", "--times", "3"], ["--times", "3", "Ann"], ["--times=3", "--name", "Ann"]])
def test_arguments_without_a_name(arguments):
    """A path may stand anywhere; the value of a flag is not taken for one."""
    made = greeting()
    made.parse(arguments)
    assert (made["name"], made["times"]) == ("Ann", 3)
    loud = greeting()
    loud.parse(["--loud", "Ann"])
    assert (loud["loud"], loud["name"]) == (True, "Ann")


def test_arguments_without_a_name_count_where_they_stand():
    """The last value counts, whichever way it is given; after `--` nothing is a flag, and nothing is lost."""
    for arguments, name in (
        (["Ann", "--name=Bob"], "Bob"),
        (["--name=Bob", "Ann"], "Ann"),
        (["--times=2", "--", "-Ann"], "-Ann"),
    ):
        made = greeting()
        made.parse(arguments)
        assert made["name"] == name
    with pytest.raises(UsageError, match="unexpected argument '--times=2'"):
        greeting().parse(["Ann", "--", "--times=2"])


def test_a_flag_file_holds_flags_alone(tmp_path):
    """A line that is no flag is refused, rather than taken for a path."""
    (tmp_path / "odd.flags").write_text("times=2\n")
    with pytest.raises(UsageError, match="holds 'times=2': expected --name=value on each line"):
        greeting().parse([f"--flagfile={tmp_path / 'odd.flags'}"])


PRESETS_OF = {"_patches": "make-patches", "_patients": "simulate", "grid": "simulate"}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_understood(name):
    """The command that a preset is for takes all its flags."""
    from importlib import import_module

    kind = next((command for ending, command in PRESETS_OF.items() if name.endswith(ending)), "train")
    made = import_module(f"stan_ct.cli.{kind.replace('-', '_')}").command()
    paths = {"train": ["R", "O"], "make-patches": ["I", "O"], "simulate": ["--output_dir=O"]}[kind]
    made.parse([f"--preset={name}", *paths])


def test_choices_of_reconstruct_are_those_of_the_settings():
    """Its flags are written out, so that help loads no NumPy; words and defaults are those of the dataclasses."""
    from typing import get_args, get_type_hints

    from stan_ct.cli import reconstruct
    from stan_ct.reconstruction.run import ReconstructSettings
    from stan_ct.reconstruction.settings import PipelineSettings

    values, types = reconstruct.command().values, get_type_hints(PipelineSettings)
    for name in ("fusion", "patch_layout", "fusion_weights", "hu_rescale", "mask", "on_unqualified"):
        assert set(values[name].parser.enum_values) == set(get_args(types[name])), name
    assert set(values["precision"].parser.enum_values) < set(get_args(get_type_hints(ReconstructSettings)["precision"]))
    for name in ("target", "fusion", "precision", "allow_out_of_protocol", "flat", "overwrite", "show_identifiers", "dry_run"):
        assert values[name].default == getattr(ReconstructSettings, name), name
    assert tuple(values["model"].default) == ReconstructSettings.models
    assert values["seed"].default == PipelineSettings.seed


def test_flags_of_a_file_are_overridden_by_those_after_it(tmp_path):
    """--flagfile and --preset stand for their flags, in their place; files may name files and presets."""
    inner, outer = tmp_path / "inner.flags", tmp_path / "outer.flags"
    inner.write_text("# a comment\n--times=2\n\n--tone=cool\n")
    outer.write_text(f"--flagfile={inner}\n--times=3\n")
    made = greeting()
    made.parse([f"--flagfile={outer}", "Ann", "--tone=warm"])
    assert (made["times"], made["tone"]) == (3, "warm")
    inner.write_text(f"--flagfile={outer}\n")
    with pytest.raises(UsageError, match="leads back to itself"):
        greeting().parse([f"--flagfile={outer}", "Ann"])


def test_presets_are_found_from_any_folder(tmp_path, monkeypatch):
    """By name, and by the path that a checkout shows; every preset that ships can be expanded."""
    monkeypatch.chdir(tmp_path)
    assert {"paper", "default", "smoke", "reproduce/laptop_train"} <= set(preset_names())
    for name in preset_names():
        assert not [flag for flag in expand([f"--preset={name}"]) if flag.startswith(("--preset", "--flagfile"))]
    assert expand(["--preset=paper"]) == expand(["--flagfile=data/flags/paper.flags"])
    assert "--theta_d=0.99" in expand(["--preset", "ganai"])


def test_flags_of_the_checkout_are_the_presets():
    """data/flags shows the very files."""
    assert (ROOT / "data/flags/paper.flags").read_text() == (ROOT / "stan_ct/cli/presets/paper.flags").read_text()


def test_effective_flags_repeat_a_run():
    """What a command writes beside its result gives the same values through --flagfile."""
    made = greeting()
    made.parse(["Ann", "--times=4", "--loud"])
    again = greeting()
    again.parse(made.effective_flags().splitlines())
    assert again.effective_flags() == made.effective_flags()
    assert made.effective_flags("loud") == "--name=Ann\n--tone=warm\n--times=4\n"


@pytest.mark.parametrize(("name", "script"), SCRIPTS.items())
def test_the_scripts_of_the_checkout_are_the_commands(name, script, tmp_path):
    """`python train.py --help` from any folder is `stan-ct train --help`."""
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"stan-ct {name} ")


def test_positional_paths_and_the_default_output(tmp_path, monkeypatch):
    """`stan-ct reconstruct IN` writes beside IN; a broken pipe or a closed stream changes neither work nor exit code.

    Runs without standard error load the networks that ship, whose start holds it back; the others, where they can, a filter.
    """
    write_ct(tmp_path / "in", random_stored((1, 40, 40)) // 16 + 1000)
    monkeypatch.chdir(tmp_path)
    done = commands.run("reconstruct", "in", "--allow_out_of_protocol")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "in_standardized").glob("series/*/*.dcm"))) == 1
    front_end = FrontEnd({"B": RadialFilter((0.0, 8.0), (1.0, 0.5))})
    save_model(tmp_path / "filter", ModelConfig("filter", "kernel_filter", "B", "L", False, front_end=front_end))
    runs = (
        (tmp_path / "filter", "| true"),
        (tmp_path / "filter", ">&-"),
        ("default", "2>&-"),
        ("default", ">&- 2>&- <&-"),
    )
    for number, (model, redirection) in enumerate(runs):
        command = (
            f"{sys.executable} -m stan_ct reconstruct in out{number} --model={model} --allow_out_of_protocol {redirection}"
        )
        script = f"set -o pipefail; {command}"
        shell = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert shell.returncode == 0, (redirection, shell.stderr)
        assert "Traceback" not in shell.stderr
        assert len(list((tmp_path / f"out{number}").glob("series/*/*.dcm"))) == 1


def test_a_terminal_takes_no_orders_from_a_file_name(tmp_path):
    """Control characters are printed as escapes."""
    (tmp_path / "in" / "evil\x1b[2J").mkdir(parents=True)
    (tmp_path / "in" / "evil\x1b[2J" / "x\x1b]0;y.dcm").write_bytes(b"\x08\x00" + bytes(200))
    done = run("reconstruct", "in", "out", cwd=tmp_path)
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", [PlainText, Unbreakable])
def test_streams_swallow_what_nobody_reads(kind):
    """A stream that fails once is not written to again, and nothing is raised."""

    class Broken:
        calls = 0
        encoding = "utf-8"

        def write(self, text):
            self.calls += 1
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    broken = Broken()
    stream = kind(broken)
    for _ in range(3):
        assert stream.write("word") == 4
        stream.flush()
    assert broken.calls == 1


def test_progress_bars_may_move_the_cursor_but_names_may_not():
    """Standard output escapes control characters, standard error does not; both are put back in the end."""
    with pytest.MonkeyPatch.context() as patch:
        streams = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        prepare_streams()
        print("\x1b[2J\r")
        print("\x1b[A\r", file=sys.stderr)
        release_streams()
        assert (sys.stdout, sys.stderr) == streams
    assert [stream.getvalue() for stream in streams] == ["\\x1b[2J\\x0d\n", "\x1b[A\r\n"]


@pytest.mark.usefixtures("signals_arrive")
@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "stopped")])
def test_signals_end_a_run_with_their_word_and_code(tmp_path, monkeypatch, capsys, number, code, word):
    """What is finished stays; the user is told how to go on. Nobody needs to read it."""
    from stan_ct.reconstruction import run as module

    monkeypatch.setattr(module, "reconstruct", lambda settings: os.kill(os.getpid(), number))
    assert main(["reconstruct", str(tmp_path)]) == code
    assert f"reconstruct: {word}; finished series are kept" in capsys.readouterr().err


@pytest.mark.parametrize("redirection", ["> /dev/full", "2> /dev/full", "> /dev/full 2>&1"])
def test_a_full_disk_under_the_streams_changes_no_exit_code(redirection):
    """Neither a success nor a usage error ends in another way because its words cannot be written."""
    for arguments, code in (("--version", 0), ("reconstruct nowhere", 1)):
        command = f"{sys.executable} -m stan_ct {arguments} {redirection}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
