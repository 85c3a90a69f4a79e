"""Speed of what users wait for, beside peers: `make bench`, or `python benchmarks/speed.py [--rows=..] [--slices=1,21]`.

One table: ours, the peer, their ratio, and the limit. Ours and the peer are measured in turn, `--rounds` times; medians are
shown. Seconds are processor time (user and system, all threads), so that other work on the machine matters little; where series
are standardized, wall time and peak memory stand beside it, and the load of the machine above the table. What is standardized,
with the model `default`, are two slices of a simulated chest, 512 x 512, again and again; what is refused is noise under the
header of pydicom's CT. Peers are in the extra `bench`; the table names those that are not installed. GPUs are not measured.
Ends with 1 if a limit is broken.

rows: `help` (start-up), `empty` (a folder without CT), `refused` (a kernel that no model knows, 100 slices), `whole` (a run of
36 slices, wall time), each also beside another checkout with `--before=CHECKOUT`, `start` (until the networks of an exported
model have run once), `headers` (search of CT, per file, beside pydicom that reads the same headers), `mask`, `gaussian` (beside
scipy.ndimage), `glcm` (beside scikit-image), `generator` and `discriminator` (per patch, one thread, beside PyTorch; other
engines are noted), `series` (per slice from DICOM to DICOM, start-up left out, beside the network alone, in the same engine, on
nine patches a slice in one thread), `step` (a step of D and one of G in training, beside PyTorch; see `torch_step.py`),
`records` (patches on their way from disk into training; see `input_pipeline.py`), `simulator` (a slice in three kernels),
`script` (a whole run of `--slices`, beside `peers.py`, MONAI's sliding window with the same filter and generator in PyTorch,
which checks nothing), `workers` (six series of ten slices each, `--workers=2` beside one process on one core), `scaling` (wall
time of `--scaling` slices, on all cores and on one).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pydicom
from peers import dissimilarity, missing
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout's package, whatever is installed

from stan_ct.ct.smoothing import close_and_open, gaussian  # noqa: E402
from stan_ct.dicom.find import find_series  # noqa: E402
from stan_ct.features.glcm import Discretization, features  # noqa: E402
from stan_ct.parallel import usable_cores  # noqa: E402

ROWS = (
    *("help", "empty", "refused", "whole", "start", "headers", "mask", "gaussian", "glcm", "generator", "discriminator"),
    *("series", "step", "records", "simulator", "script", "workers", "scaling"),
)
RUN = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code.returncode, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
START = """
import numpy as np, stan_ct
model = stan_ct.load_model("default", slices_at_once=2)
model.synthesizer(np.zeros((1, 256, 256), np.float32))
"""
NETWORKS = """
import json, os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.path.insert(0, sys.argv[1])
from peers import network_times
print(json.dumps(network_times(sys.argv[2], int(sys.argv[3]))))
"""
NETWORK = """
import sys, time
import numpy as np, stan_ct
from stan_ct.models.checksums import SHIPPED
from stan_ct.reconstruction.synthesis import load_synthesizer
made = load_synthesizer(SHIPPED / "default", "float32", True, stan_ct.load_model("default", precision="float32").engine)
made.judge = None
patches = np.zeros((9, 256, 256), np.float32)
made(patches)
start = time.process_time()
for _ in range(int(sys.argv[1])):
    made(patches)
print(time.process_time() - start)
"""


STEP = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch, torch_step as t
spectral, losses = t.LOSSES["cross-entropy"]
batch = tuple(np.random.default_rng(0).uniform(-1, 1, (t.BATCH, 256, 256, 1)).astype(np.float32) for _ in range(2))
model = t.original(t.choose_strategy(), 16, spectral, losses, "float32")
twin = t.TorchCompetition(model, 16, spectral, False, torch.channels_last, False)
found = t.round_times({"ours": t.tensorflow_steps(model, batch), "torch": t.torch_steps(twin, batch)}, int(sys.argv[2]))
print(json.dumps({name: seconds[..., 1].sum(0).tolist() for name, seconds in found.items()}))
"""
RECORDS = """
import json, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import input_pipeline as p
with tempfile.TemporaryDirectory() as folder:
    p.make_records(Path(folder))
    batches = p.read_patches(Path(folder), "train", p.HUWindow(), 8, seed=0, repeat=True)
    print(json.dumps([1e3 / p.pairs_per_second(batches, 8, 4.0) for _ in range(int(sys.argv[2]))]))
"""
SIMULATOR = """
import json, sys, time
from stan_ct.ct.kernels import KERNELS
from stan_ct.simulation.study import Patient, Scan, acquire
kernels, number = [KERNELS[name] for name in ("BR40", "BL57", "BL64")], int(sys.argv[2])
patient = Patient(1, Scan(tuple(kernels), slices=60, start=-30))
run, times = acquire(patient, range(4 * number + 2)), []
for _ in range(4 * number + 2):
    start = time.process_time()
    next(run)
    times.append(time.process_time() - start)
print(json.dumps([sum(times[i : i + 4]) / 4 for i in range(2, len(times), 4)]))
"""


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        what: What is measured, with its unit.
        ours: Each round's value.
        peer: The peer's, in the same rounds; empty without a peer.
        limit: Largest value or, beside a peer, largest ratio to it.
        note: What else was seen.
    """

    what: str
    ours: list[float]
    peer: list[float]
    limit: float
    note: str = ""

    @property
    def measured(self) -> float:
        """What the limit holds for: the median, or beside a peer the median of the rounds' ratios."""
        return float(np.median(np.divide(self.ours, self.peer) if self.peer else self.ours))

    def line(self) -> str:
        """The row as Markdown."""
        peer, ratio = (f"{np.median(self.peer):.3g}", f"{self.measured:.2f}") if self.peer else ("", "")
        kept = "" if self.measured <= self.limit else " **missed**"
        return f"| {self.what} | {np.median(self.ours):.3g} | {peer} | {ratio} | {self.limit:.2g}{kept} | {self.note} |"


def run(*arguments: str | Path, checkout: Path = ROOT) -> tuple[float, float, float]:
    """Wall and processor time of a process, s, and its peak memory, MiB; what it refuses is no error."""
    command, environment = (
        [sys.executable, "-c", RUN, sys.executable, *map(str, arguments)],
        {**os.environ, "PYTHONPATH": str(checkout)},
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    code, wall, cpu, peak = json.loads(done.stdout)
    if code not in (0, 3) and "--help" not in arguments:  # all good, or nothing to standardize
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {code}")
    return wall, cpu, peak


def write_series(folder: Path, number: int) -> Path:
    """A series of noise, 512 x 512, under the header of pydicom's CT."""
    folder.mkdir()
    header, rng = pydicom.examples.ct, np.random.default_rng(0)
    header.Rows = header.Columns = 512
    header.PixelSpacing = [0.7, 0.7]
    some = [(rng.normal(40, 30, (512, 512)) - float(header.RescaleIntercept)).astype("<i2").tobytes() for _ in range(4)]
    for z in range(number):
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"2.25.{z + 1}"
        header.ImagePositionPatient = [0, 0, 2.5 * z]
        header.InstanceNumber, header.PixelData = z + 1, some[z % 4]
        header.save_as(folder / f"{z:04}.dcm")
    return folder


def thread_seconds(call: Callable, times: int) -> float:
    """Processor time of a call in this thread, s, once it is warm."""
    call()
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times


def start_up(name: str, rounds: int, folder: Path, before: Path | None) -> Row:
    """Rows `help`, `empty`, `refused` and `whole`, beside another checkout if there is one."""
    (folder / "empty").mkdir(exist_ok=True)
    what, absolute, relative = {
        "help": ("`--help`, s", 1.0, 1.5),
        "empty": ("empty folder, s", 1.5, 1.5 / 7),
        "refused": ("refused kernel, 100 slices, s", 1.5, 1.5 / 6.1),
        "whole": ("36 slices of a chest, wall s", float("inf"), 4 / 13),
    }[name]
    source = write_series(folder / "strange", 100) if name == "refused" else folder / "empty"

    def once(checkout: Path) -> tuple[float, float, float]:
        if name == "whole":
            return standardize(chest(folder, 36), checkout=checkout)
        flags = ["--help"] if name == "help" else [f"--input_dir={source}", f"--output_dir={folder / 'none'}"]
        shutil.rmtree(folder / "none", ignore_errors=True)
        return run(checkout / "reconstruct.py", *flags, checkout=checkout)

    found = [[once(checkout) for checkout in (ROOT, before) if checkout] for _ in range(rounds)]
    column = 0 if name == "whole" else 1
    ours, *peer = ([turn[i][column] for turn in found] for i in range(len(found[0])))
    return Row(
        f"{what}{' (checkout before)' if before else ''}",
        ours,
        peer[0] if peer else [],
        round(relative, 2) if before else absolute,
        ", ".join(f"{memory:.0f} MiB" for _, _, memory in found[0]),
    )


def headers(rounds: int, folder: Path, number: int = 100) -> Row:
    """Row `headers`."""
    source = write_series(folder / "headers", number)
    paths = sorted(source.iterdir())

    def peer() -> None:
        for path in paths:
            pydicom.dcmread(path, stop_before_pixels=True)

    times = [(thread_seconds(lambda: find_series(source), 1), thread_seconds(peer, 1)) for _ in range(rounds)]
    ours, theirs = (1e3 * np.array(times) / number).T.tolist()
    return Row("headers, ms a file (pydicom)", ours, theirs, 0.9)


def smoothing(name: str, rounds: int) -> Row:
    """Rows `mask` and `gaussian`."""
    image = np.random.default_rng(0).normal(0, 100, (512, 512)).astype(np.float32)
    mask, disk = image > -50, ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 3)
    ours, peer, limit = {
        "mask": (
            lambda: close_and_open(mask, 3),
            lambda: ndimage.binary_opening(ndimage.binary_closing(mask, disk), disk),
            0.1,
        ),
        "gaussian": (lambda: gaussian(image, 2.0), lambda: ndimage.gaussian_filter(image, 2.0), 0.5),
    }[name]
    times = [(1e3 * thread_seconds(ours, 5), 1e3 * thread_seconds(peer, 5)) for _ in range(rounds)]
    return Row(f"{name}, ms a slice (scipy.ndimage)", *np.transpose(times).tolist(), limit)


def standardize(source: Path, *more: str, checkout: Path = ROOT) -> tuple[float, float, float]:
    """Standardizes a series into a new folder, since a finished one would be kept; see :func:`run`.

    Raises:
        RuntimeError: If no series was written.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as output:
        flags = [f"--input_dir={source}", "--model=default", "--allow_out_of_protocol", f"--output_dir={output}/out", *more]
        found = run(checkout / "reconstruct.py", *flags, checkout=checkout)
        if not any(Path(output).glob("out/series/**/*.dcm")):
            raise RuntimeError(f"{source}: no series was written")
    return found


def network_seconds(slices: int) -> float:
    """Processor time of the network for nine patches, s, without judging them."""
    command, environment = [sys.executable, "-c", NETWORK, str(slices)], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1]) / slices


def series(rounds: int, folder: Path, slices: tuple[int, int]) -> Row:
    """Row `series`: what each slice beyond a few costs."""
    few, many = slices
    sources, ours, peer, note = [chest(folder, n) for n in slices], [], [], ""
    for _ in range(rounds):
        found = [standardize(source) for source in sources]
        ours.append((found[1][1] - found[0][1]) / (many - few))
        peer.append(network_seconds(many - few))
        note = (
            f"{many} slices: wall {found[1][0]:.1f} s, {found[1][2]:.0f} MiB; {few}: {found[0][0]:.1f} s, {found[0][2]:.0f} MiB"
        )
    return Row("DICOM to DICOM, s a slice (network alone)", ours, peer, 1.15, note)


def start(rounds: int) -> Row:
    """Row `start`."""
    found = [run("-c", START) for _ in range(rounds)]
    engines = [name for name in ("onnxruntime", "openvino") if not missing(name)]
    note = f"{engines[0]}, {found[0][2]:.0f} MiB" if engines else "TensorFlow: no other engine is installed"
    return Row("start-up until the networks have run, s", [cpu for _, cpu, _ in found], [], 1.0, note)


def network(label: str, rounds: int) -> Row:
    """Rows `generator` and `discriminator`."""
    times = measured(NETWORKS, label, 3 * rounds)
    ours = next(name for name in ("onnxruntime", "openvino", "tensorflow") if name in times)
    peer = times.pop("torch", [])
    others = [f"{name} {np.median(each):.3g}" for name, each in times.items() if name != ours]
    others += [f"{name}: not installed" for name in missing("onnxruntime", "openvino", "torch").split(", ") if name]
    return Row(f"{label} in {ours}, ms a patch (PyTorch)", times[ours], peer, 1.0, ", ".join(others))


def training_step(rounds: int) -> Row:
    """Row `step`."""
    what = "a step of D and one of G, 16 filters, 8 patches, float32, one thread, s (PyTorch)"
    if missing("torch"):
        return Row(what, [float("nan")], [], 1.1, "not measured: torch is not installed")
    times = measured(STEP, rounds)
    return Row(what, times["ours"], times["torch"], 1.1)


def made(name: str, rounds: int) -> Row:
    """Rows `records` and `simulator`."""
    code, what, limit = {
        "records": (RECORDS, "patches from records into training, ms a pair (wall)", 1e3 / 300),
        "simulator": (SIMULATOR, "simulator, a slice in three kernels, s", 3.0),
    }[name]
    return Row(what, measured(code, rounds, one_thread=name == "simulator"), [], limit)


def measured(code: str, *arguments: object, one_thread: bool = True) -> Any:
    """What a script prints as JSON in its last line; in one thread, unless told otherwise."""
    command = [sys.executable, "-c", code, str(ROOT / "benchmarks"), *map(str, arguments)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1") if one_thread else {}
    environment = {**os.environ, **one, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def glcm(rounds: int) -> Row:
    """Row `glcm`."""
    image = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 4000, (256, 256)), (0, 0), 6) - 50
    rule = Discretization.fixed_number(256)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]

    def peer() -> None:
        matrix = graycomatrix(rule.to_levels(image).astype(np.uint8), [1], angles, 256, symmetric=True, normed=True)
        for name in ("dissimilarity", "contrast", "homogeneity", "energy", "correlation"):
            graycoprops(matrix, name)

    def ours() -> None:
        features(image, rule)

    times = [(1e3 * thread_seconds(ours, 3), 1e3 * thread_seconds(peer, 1)) for _ in range(rounds)]
    notes = []
    for name, label in (("mirp", "MIRP, all 25 of its features"), ("radiomics", "pyradiomics")):
        if missing(name):
            notes.append(f"{label}: not installed")
            continue
        other = dissimilarity(name, rule.to_levels(image))
        if abs(other() - features(image, rule)[0]) > 1e-6:
            raise RuntimeError(f"{label}: another dissimilarity than ours")
        notes.append(f"{label} {1e3 * thread_seconds(other, 1):.3g}")
    return Row("five GLCM features, ms a patch (scikit-image)", *np.transpose(times).tolist(), 0.05, "; ".join(notes))


def chest(folder: Path, number: int) -> Path:
    """A series of two slices of a simulated chest, BR40, again and again."""
    made = folder / "chest"
    if not made.exists():
        flags = [
            "--patients=1",
            "--validation_patients=0",
            "--test_patients=0",
            "--slices=2",
            "--kernels=BR40",
            "--thicknesses=3",
        ]
        run("-m", "stan_ct.cli.main", "simulate", *flags, f"--output_dir={made}")
    slices, series = [pydicom.dcmread(path) for path in sorted(made.rglob("*.dcm"))], folder / f"chest of {number}"
    if not series.exists():
        series.mkdir()
        for z in range(number):
            header = slices[z % len(slices)]
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"2.25.{z + 1}"
            header.ImagePositionPatient = [*header.ImagePositionPatient[:2], 3.0 * z]
            header.InstanceNumber, header.SliceLocation = z + 1, 3.0 * z
            header.save_as(series / f"{z:04}.dcm")
    return series


def script(rounds: int, folder: Path, slices: int) -> Row:
    """Row `script`: wall time, since a user waits for it."""
    source, lacking, ours, theirs = chest(folder, slices), missing("torch", "monai"), [], []
    for _ in range(rounds):
        ours.append(standardize(source))
        if not lacking:
            theirs.append(run(ROOT / "benchmarks/peers.py", source, folder / "script theirs"))
    wall, peer = [each[0] for each in ours], [each[0] for each in theirs]
    seconds = [
        f"processor {np.median([each[1] for each in found]):.3g} s, {found[0][2]:.0f} MiB" for found in (ours, theirs) if found
    ]
    note = "; ".join([*seconds, *(f"{name}: not installed" for name in lacking.split(", ") if name)])
    return Row(f"{slices} slices of a chest, wall s (MONAI's sliding window, no checks)", wall, peer, 1.0, note)


def workers(rounds: int, folder: Path) -> Row:
    """Row `workers`: two processes on two cores, beside one process on one of them; one on both is noted."""
    source, cores = folder / "cohort", sorted(os.sched_getaffinity(0))[:2]
    for number in range(1, 7):
        shutil.copytree(chest(folder, 10), source / str(number))
        for path in (source / str(number)).iterdir():
            header = pydicom.dcmread(path)
            header.SeriesInstanceUID, header.SOPInstanceUID = f"2.25.1{number}", f"{header.SOPInstanceUID}.{number}"
            header.save_as(path)
    found = []
    for _ in range(rounds):
        turn = []
        for used, flags in ((cores, ["--workers=2"]), (cores[:1], []), (cores, [])):
            with on_cores(used):
                turn.append(standardize(source, *flags)[0])
        found.append(turn)
    two, one, both = np.transpose(found).tolist()
    note = f"one process on both: {np.median(both):.1f} s, {np.median(np.divide(one, both)):.2f} times the throughput"
    return Row("6 series of 10 slices, two workers, wall s (one process on one core)", two, one, 1 / 1.7, note)


@contextmanager
def on_cores(chosen: Sequence[int]) -> Iterator[None]:
    """Processes that are started within use these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def scaling(folder: Path, number: int) -> Row:
    """Row `scaling`: a series on all cores, beside the same on one."""
    source, found = chest(folder, number), []
    cores = sorted(os.sched_getaffinity(0))
    for chosen in (cores, cores[:1]):
        with on_cores(chosen):
            found.append(standardize(source))
    note = f"{found[0][2]:.0f} and {found[1][2]:.0f} MiB"
    return Row(f"{number} slices on {len(cores)} cores, wall s (on one)", [found[0][0]], [found[1][0]], 1.1, note)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="rows to measure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--before", type=Path, help="another checkout, beside which the first four rows are measured")
    parser.add_argument("--scaling", default="1,10,100", help="lengths of the series of the row scaling")
    parser.add_argument("--slices", default="1,21", help="lengths of the two series that are standardized")
    chosen = parser.parse_args(arguments)
    few, many = map(int, chosen.slices.split(","))
    cv2.setNumThreads(1)
    print(f"{usable_cores()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| what (peer) | ours | peer | ratio | limit | |\n|---|---|---|---|---|---|")
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in chosen.rows.split(","):
            if name in ("help", "empty", "refused", "whole"):
                rows = [start_up(name, chosen.rounds, folder, chosen.before)]
            elif name == "headers":
                rows = [headers(chosen.rounds, folder)]
            elif name == "series":
                rows = [series(chosen.rounds, folder, (few, many))]
            elif name == "start":
                rows = [start(chosen.rounds)]
            elif name in ("generator", "discriminator"):
                rows = [network(name, chosen.rounds)]
            elif name == "step":
                rows = [training_step(chosen.rounds)]
            elif name in ("records", "simulator"):
                rows = [made(name, chosen.rounds)]
            elif name == "glcm":
                rows = [glcm(chosen.rounds)]
            elif name == "script":
                rows = [script(chosen.rounds, folder, many)]
            elif name == "workers":
                rows = [workers(chosen.rounds, folder)]
            elif name == "scaling":
                rows = [scaling(folder, int(number)) for number in chosen.scaling.split(",")]
            else:
                rows = [smoothing(name, chosen.rounds)]
            for row in rows:
                print(row.line(), flush=True)
                missed |= row.measured > row.limit
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
