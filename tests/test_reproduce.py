"""`benchmarks/reproduce.py`: what is done is not done again, rows have equal budgets, and a long run can be divided."""

import json
import os
from pathlib import Path

import pydicom
import pytest
import reproduce
from reproduction import rows, steps
from reproduction.data_sets import PARTS, data_sets, divide_phantom, input_of, link_test_series
from synthetic import random_stored, write_ct

from stan_ct.cli.preset_files import expand, preset_names

SCALES = ("smoke", "ablation", "laptop", "paper")


@pytest.fixture
def ran(monkeypatch):
    """The commands that would be run; one called `broken` fails."""
    found = []

    class Done:
        def __init__(self, command):
            self.returncode = 7 if "broken" in command[3] else 0

    def run(command, **_):
        found.append(command[3:])
        Path(command[-1].removeprefix("--output_dir=")).mkdir(parents=True, exist_ok=True)
        return Done(command)

    monkeypatch.setattr(steps.subprocess, "run", run)
    return found


def test_a_step_is_done_once(ran, tmp_path):
    """The same command is not run again; another one is, in an empty folder; a failure ends all with its exit code."""
    once = steps.Steps(tmp_path)
    assert once("models/a", "train", "--x=1") == tmp_path / "models/a"
    once("models/a", "train", "--x=1")
    assert ran == [["train", "--x=1", f"--output_dir={tmp_path / 'models/a'}"]]
    (tmp_path / "models/a/old").touch()
    assert not once.done("models/a", "train", "--x=2")
    once("models/a", "train", "--x=2")
    assert len(ran) == 2
    assert not (tmp_path / "models/a/old").exists()
    with pytest.raises(SystemExit) as stopped:
        once("b", "broken")
    assert stopped.value.code == 7
    (tmp_path / "b/half").touch()
    with pytest.raises(SystemExit):
        once("b", "broken")
    assert (tmp_path / "b/half").exists(), "a step that was stopped goes on with what it has"


def test_a_step_knows_its_presets_and_its_output(ran, tmp_path, monkeypatch):
    """A preset that has changed, or a folder that was removed, make a step anew."""
    once = steps.Steps(tmp_path)
    once("model", "train", "--preset=unet")
    assert once.done("model", "train", "--preset=unet")
    monkeypatch.setattr(steps, "expand", lambda arguments: [*arguments, "--max_steps=7"])
    assert not once.done("model", "train", "--preset=unet")
    monkeypatch.undo()
    (tmp_path / "model").rmdir()
    assert not once.done("model", "train", "--preset=unet")


def test_a_step_follows_its_inputs(ran, tmp_path):
    """What was made of something that is made anew is made again; a folder that was moved is not."""
    once = steps.Steps(tmp_path / "here")
    once("records", "make-patches", "--x=1")
    once("model", "train", f"--records_dir={tmp_path / 'here/records'}", after=("records",))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = steps.Steps(tmp_path / "there")
    arguments = ("train", f"--records_dir={tmp_path / 'there/records'}")
    assert moved.done("model", *arguments, after=("records",))
    moved("records", "make-patches", "--x=2")
    assert not moved.done("model", *arguments, after=("records",))


def test_time_left(ran, tmp_path):
    """From steps of the same kind, else from any of the same command; what nothing is known of is counted."""
    plan = {"a": "train unet", "b": "train unet", "c": "train cgan", "d": "records"}
    once = steps.Steps(tmp_path, plan)
    assert once.left() == "4 steps to go"
    once("a", "train")
    note = tmp_path / "done/a.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"seconds": 3600}))
    assert once.left() == "3 steps to go, about 2 h 00 min and 1 of unknown length"


def test_rows_have_equal_budgets():
    """Whatever its preset says, every trained row of a scale has the same steps, batches and width; at laptop 1,500 steps."""
    budget = ("max_steps", "batch_size", "base_filters", "learning_rate", "lr_schedule", "validation_patches")
    made = {name: rows.effective_flags(row.flags("laptop")) for name, row in rows.ROWS.items() if row.seeded}
    assert {tuple(flags[name] for name in budget) for flags in made.values()} == {
        ("1500", "4", "16", "0.0002", "cosine", "200")
    }
    different = {json.dumps(flags) for flags in made.values()}
    assert len(different) == len(made), "two rows are trained alike"
    paper = [row for row in rows.TABLE_1 if row + rows.WITH_FILTER in made]
    assert len(paper) == 6
    for name in paper:
        changed = {key for key, value in made[name].items() if made[name + rows.WITH_FILTER][key] != value}
        assert changed == {"use_front_end"}


def test_ablations_differ_by_what_their_name_says():
    """One thing is taken away, or a copy is added."""
    made = {name: rows.effective_flags(row.flags("laptop")) for name, row in rows.ROWS.items()}
    for whole in (rows.OURS, rows.PAIRED, rows.PHASES):
        for end, flags in (
            (rows.WITHOUT_ADVERSARIAL, {"method", "feature_weight", "latent_weight"}),
            (rows.WITHOUT_TEXTURE, {"texture_weight"}),
            (rows.TWO_COPIES, {"num_copies"}),
        ):
            if whole + end in made:
                assert {key for key, value in made[whole].items() if made[whole + end][key] != value} <= flags
    assert {rows.OURS + end for end in (rows.WITHOUT_ADVERSARIAL, rows.WITHOUT_TEXTURE, rows.TWO_COPIES)} <= made.keys()
    assert made[rows.OURS + rows.WITHOUT_ADVERSARIAL]["method"] == "unet"


def test_every_scale_has_its_flags():
    """Three presets for each scale; those of the data sets can be read."""
    for scale in SCALES:
        assert {f"reproduce/{scale}_{part}" for part in ("patients", "patches", "train")} <= set(preset_names())
        sets = data_sets(scale)
        assert {name: data.real for name, data in sets.items()} == {
            "1mm": False,
            "3mm": False,
            "philips": True,
            "toshiba": True,
        }
        for data in sets.values():
            filters = [flag for flag in expand(data.patches) if flag.startswith("--front_end")]
            assert filters[-1] == f"--front_end={'amplitude' if scale == 'smoke' else 'blend'}"


def test_a_run_can_be_divided(ran, tmp_path):
    """Rows and seeds are chosen by name; the models of an earlier part count as finished, those of other flags do not."""
    first = ["--scale=laptop", f"--output_dir={tmp_path}", "--data=1mm", "--rows=U-Net,radial filter", "--seeds=1"]
    choice, train_only = reproduce.parse([*first, "--train_only"])
    assert train_only
    reproduce.Experiment(choice).train()
    assert [command[0] for command in ran] == ["simulate", "make-patches", "train", "train"]
    assert "--seed=1" in ran[2]
    assert not any("--seed" in argument for argument in ran[3]), "a filter has no seed"
    choice, _ = reproduce.parse(["--scale=laptop", f"--output_dir={tmp_path}", "--data=1mm", "--rows=U-Net"])
    assert choice.seeds == (0, 1, 2)
    experiment = reproduce.Experiment(choice)
    experiment.train()
    assert len(ran) == 6
    assert {row: list(seeds) for row, seeds in experiment.finished(choice.data[0]).items()} == {
        "radial filter": [None],
        "U-Net": [0, 1, 2],
    }
    note = tmp_path / "done/1mm-models-u_net-1.json"
    note.write_text(note.read_text().replace("--seed=1", "--seed=7"))
    assert list(experiment.finished(choice.data[0])["U-Net"]) == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows=VNet"], "'VNet' is none of histogram matching,"),
        (["--data=ge"], "'ge' is none of 1mm, 3mm, philips, toshiba"),
        (["--data=toshiba"], "give the folder of real CT"),
    ],
)
def test_bad_choices_are_named(arguments, said, capsys, tmp_path):
    """Unknown rows and data sets, and real data without a folder."""
    with pytest.raises(SystemExit):
        reproduce.parse([f"--output_dir={tmp_path}", *arguments])
    assert said in capsys.readouterr().err


def test_links_to_series(tmp_path):
    """One link for each test patient, and a tree of the 3 mm sources and 1 mm targets; a second call leaves them."""
    for patient in ("train/SIM0", "test/SIM1", "test/SIM2"):
        for name in ("BR40_1mm", "BR40_3mm", "BL64_1mm", "BL64_3mm"):
            (tmp_path / "patients" / patient / name).mkdir(parents=True)
    for _ in range(2):
        links = link_test_series(tmp_path / "patients", "BR40", tmp_path)
        tree = input_of(data_sets("smoke")["3mm"], tmp_path / "patients", None, tmp_path)
    assert {link.name: link.resolve().name for link in links.iterdir()} == {"SIM1": "BR40_1mm", "SIM2": "BR40_1mm"}
    assert sorted(path.name for path in (tree / "train/SIM0").iterdir()) == ["BL64_1mm", "BR40_3mm"]
    assert len(list(tree.glob("*/*/*"))) == 6


def test_the_phantom_is_divided_by_level(tmp_path):
    """The neck trains and validates, the chest tests, each part with an identity of its own, the pixels as they were."""
    for level, first in (("neck", 100), ("chest", 0)):
        for kernel in ("FC13", "FC51"):
            write_ct(tmp_path / "ct" / level / kernel, random_stored((2, 8, 8), seed=first), kernel=kernel)
    made = divide_phantom(tmp_path / "ct", tmp_path / "made")
    found = {part: sorted(path for path in (made / part).rglob("*") if path.is_file()) for part in PARTS}
    assert {part: len(paths) for part, paths in found.items()} == {"train": 2, "validation": 2, "test": 4}
    read = {part: [pydicom.dcmread(path) for path in paths] for part, paths in found.items()}
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID"):
        values = [{str(getattr(dataset, name)) for dataset in datasets} for datasets in read.values()]
        assert not values[0] & values[1] | values[1] & values[2] | values[0] & values[2], name
    source = {path.name: pydicom.dcmread(path).PixelData for path in (tmp_path / "ct/chest/FC13").iterdir()}
    assert {path.name: pydicom.dcmread(path).PixelData for path in (made / "test/FC13").iterdir()} == source
    before = {path: os.stat(path).st_mtime_ns for paths in found.values() for path in paths}
    divide_phantom(tmp_path / "ct", tmp_path / "made")
    assert before == {path: os.stat(path).st_mtime_ns for path in before}
