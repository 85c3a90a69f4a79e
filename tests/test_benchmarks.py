"""Scripts behind the numbers in docs/ keep up with what they measure."""

import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage
from synthetic import write_ct

from stan_ct.ct.filters import RadialFilter

ROOT = Path(__file__).resolve().parents[1]


def test_guards(tmp_path, monkeypatch, capsys):
    """Noise on a slope: tiles, stretched apart by Eq. 7, show; patches of the shipped model do not."""
    stored = np.random.default_rng(0).normal(1064, 20, (1, 320, 320)).round().astype(int)
    stored += np.linspace(0, 400, 320).astype(int)
    write_ct(tmp_path, stored, kernel="B30f")
    guards = runpy.run_path(str(ROOT / "benchmarks/guards.py"))
    monkeypatch.setattr(guards["quality"], "BOX_SIGMAS", guards["quality"].BOX_SIGMAS)  # which the script changes
    guards["main"](str(tmp_path))
    row = capsys.readouterr().out.splitlines()[-1]
    assert "B30f" in row
    least, most, grid, random, free, limited = map(float, re.findall(r"(-?\d+(?:\.\d)?)(?=[ ,]|$)", row.split("B30f")[1]))
    assert least == most > 10 > max(grid, random)
    assert free >= limited > 0


def test_filters(tmp_path, monkeypatch, capsys):
    """Where files clip the noise of air, the blend, in the last row, leaves less than the filters by ratio of spectra."""
    source = np.random.default_rng(0).normal(0, 20, (4, 256, 256))
    source[:, :60] -= 990
    source = np.maximum(source.round(), -1024)
    sharp = RadialFilter((0.0, 2.0, 4.0, 8.0), (1.0, 1.2, 2.4, 2.0), floor=-1024.0)
    target = np.stack([sharp(image, (0.7, 0.7)).round() for image in source])
    for number, (kernel, hu) in enumerate((("SOFT", source), ("SHARP", target)), 1):
        write_ct(tmp_path / kernel, hu.astype(int) + 1024, kernel=kernel, series=number)
    monkeypatch.setattr(sys, "argv", ["filters.py", "SOFT", "SHARP", "--fit", str(tmp_path), "--report", str(tmp_path)])
    runpy.run_path(str(ROOT / "benchmarks/filters.py"), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    mean, rmse = ({row[0].split(":")[0].strip("| "): float(row[k]) for row in rows} for k in (1, 3))
    assert list(mean)[-1] == "**blend**"
    for plain in ("amplitude", "Wiener"):
        assert mean["**blend**"] < mean[plain] < mean["source"]
        assert rmse["**blend**"] < rmse[plain] < rmse["source"]


def test_between(tmp_path, monkeypatch, capsys):
    """Of noise that no two slices share, the mean has too little; with their power spectrum it has as much as the truth."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 80, (4, 256, 256)), (0, 1, 1))
    write_ct(tmp_path, 1064 + noise.round().astype(int), kernel="B")
    monkeypatch.setattr(sys, "argv", ["between.py", str(tmp_path), "B 2.5 mm"])
    runpy.run_path(str(ROOT / "benchmarks/between.py"), run_name="__main__")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[-3:]]
    nearest, mean, restored = ({"error": float(row[2]), "rmse": float(row[3].strip(" |"))} for row in rows)
    assert max(nearest["error"], restored["error"]) < 0.1 < mean["error"]
    assert mean["rmse"] < restored["rmse"] < nearest["rmse"]


def test_speed(tmp_path, monkeypatch, capsys):
    """The table has the median of each row, ours beside the peer's, and the ratio; it ends with 1 where a limit is broken."""
    module = runpy.run_path(str(ROOT / "benchmarks/speed.py"))
    row = module["Row"]("search (peer)", [1.0, 2.0, 9.0], [2.0, 2.0, 3.0], 0.9, "beside")
    assert row.line() == "| search (peer) | 2 | 2 | 1.00 | 0.9 **missed** | beside |"
    assert module["Row"]("alone", [1.0, 3.0], [], 2.0).line() == "| alone | 2 |  |  | 2 |  |"
    module["main"](["--rows=mask,headers", "--rounds=1"])
    mask, headers = (line.split(" | ") for line in capsys.readouterr().out.splitlines()[-2:])
    for found, name in ((mask, "| mask"), (headers, "| headers")):
        ours, peer, ratio = map(float, found[1:4])
        assert found[0].startswith(name)
        assert ratio == pytest.approx(ours / peer, rel=0.02, abs=0.006)
    assert float(mask[3]) < 1
    for limit, code in ((1.0, 0), (0.99, 1)):
        monkeypatch.setitem(module["main"].__globals__, "smoothing", lambda *_, limit=limit: row._replace(limit=limit))
        assert module["main"](["--rows=mask"]) == code


def test_scale(tmp_path, monkeypatch):
    """The search of a file is measured; the rest of the table is arithmetic."""
    module = runpy.run_path(str(ROOT / "benchmarks/scale.py"))
    module["search"].__globals__["SEARCHED"] = 100
    monkeypatch.setattr("stan_ct.dicom.index.BATCH", 50)
    first, again, memory, index = module["search"](tmp_path)
    assert 0 < again < first < 0.1
    assert 100 < memory < 20_000
    assert 50 < index < 5000
    costs = module["Costs"](0.36, 3.6, 0.4, 5e5, 4e5, 500, 0.001, 0.0005, 600, 200)
    tables = {
        (1000, 10, 10, 2): {
            "slices": "1e+04",
            "standardize": "2 core hours",
            "on 2 cores": "1.0 hours",
            "in 10 trees: search": "0.0 minutes each",
            "in 10 trees: manifest": "0 MB each",
            "computing": "1 $",
        },
        (1e6, 200, 1, 1000): {
            "standardize": "21,000 core hours",
            "read": "100 TB",
            "memory of the search of one tree": "120 GB",
            "manifest of one run": "100 GB",
            "storage must give 1000 cores": "2.4 GB/s",
            "keeping what was written": "2,400 $ a month",
        },
    }
    for size, expected in tables.items():
        rows = module["table"](costs, *size, 0.5, 30).splitlines()
        cells = dict(row.strip("| ").split(" | ")[:2] for row in rows[2:])
        assert {name: cells[name] for name in expected} == expected


def test_edges(tmp_path, monkeypatch, capsys):
    """Uniform tissue with half the noise, and an edge of 1.1 times the height, show where they are."""
    rng = np.random.default_rng(0)
    rows = {}
    for name, noise, height in (("made", 10, 660), ("target", 20, 600)):
        image = rng.normal(0, noise, (1, 128, 128))
        image[..., 64:] += height
        write_ct(tmp_path / name, 1024 - 300 + image.round().astype(int), series=len(rows) + 1)
        rows[name] = tmp_path / name
    monkeypatch.setattr(sys, "argv", ["edges.py", str(rows["made"]), str(rows["target"])])
    assert runpy.run_path(str(ROOT / "benchmarks/edges.py"))["main"]() == 0
    uniform, *_, edge = re.findall(r"([+-]\d+\.\d)% of", capsys.readouterr().out)
    assert -78 < float(uniform) < -72  # a quarter of the squares
    assert 15 < float(edge) < 23  # 1.21 times, less what noise had there


def test_scans_pictures(tmp_path, monkeypatch, capsys):
    """Figures of a page, one below the other on white; a folder that holds no page is named."""
    script = runpy.run_path(str(ROOT / "benchmarks/scans_pictures.py"))
    figures = {"figure_noise_spectra.png": (550, 100), "figure_classifiers.png": (2200, 200), "figure_distance.png": (1100, 50)}
    for name, size in figures.items():
        Image.new("RGBA", size, (0, 0, 255, 255 if size[0] > 600 else 0)).save(tmp_path / name)
    monkeypatch.setitem(script["main"].__globals__, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["scans_pictures.py", "sites", str(tmp_path)])
    script["main"]()
    picture = Image.open(tmp_path / "sites.png").convert("RGB")
    assert picture.size == (1100, 100 + 100 + 50)
    assert [picture.getpixel((550, y)) for y in (50, 150, 225)] == [(255, 255, 255), (0, 0, 255), (0, 0, 255)]
    assert "sites.png: " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["scans_pictures.py", "adapt", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"0 figures report/figure_filter_\*.png, expected 1"):
        script["main"]()


def test_peers():
    """PyTorch's networks give TensorFlow's output, where it is installed; what is not installed is named in the table."""
    peers = runpy.run_path(str(ROOT / "benchmarks/peers.py"))
    assert peers["missing"]("numpy", "no_such_package", "another") == "no_such_package, another"
    names = {name for name in ("torch", "onnxruntime", "openvino") if not peers["missing"](name)}
    for label in ("generator", "discriminator"):
        times = peers["network_times"](label, 1)  # raises where they differ
        assert set(times) == {"tensorflow"} | (names if label == "generator" else names & {"torch"})
        assert all(0 < each < 60e3 for found in times.values() for each in found)
    module = runpy.run_path(str(ROOT / "benchmarks/speed.py"))
    module["glcm"].__globals__["missing"] = lambda *packages: "mirp, radiomics"
    row = module["glcm"](1)
    assert row.note == "MIRP, all 25 of its features: not installed; pyradiomics: not installed"
    assert 0 < row.measured < 0.5  # by far faster than scikit-image


def test_speed_of_series(tmp_path):
    """Each run standardizes anew, rather than keep what an earlier one finished; a series that is not written is an error."""
    module = runpy.run_path(str(ROOT / "benchmarks/speed.py"))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 60, (1, 256, 256)), (0, 1, 1))
    write_ct(tmp_path / "in", 1064 + noise.round().astype(int), kernel="BR40")
    for _ in range(2):
        wall, cpu, peak = module["standardize"](tmp_path / "in")
        assert min(wall, cpu) > 0
        assert peak > 50
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    (tmp_path / "in/0.dcm").unlink()
    with pytest.raises(RuntimeError, match="no series was written"):
        module["standardize"](tmp_path / "in")


def test_speed_of_workers(tmp_path, monkeypatch):
    """Two workers on two cores beside one process on one, of six series; the cores of this process stay what they were."""
    module = runpy.run_path(str(ROOT / "benchmarks/speed.py"))
    write_ct(tmp_path / "chest", np.zeros((2, 8, 8), int))
    before, seen = os.sched_getaffinity(0), []

    def standardize(source, *flags):
        uids = {str(pydicom.dcmread(path).SeriesInstanceUID) for path in source.rglob("*.dcm")}
        seen.append((len(uids), flags, os.sched_getaffinity(0)))
        return {1: 2.0, 2: 8.0, 0: 4.0}[len(seen) % 3], 0.0, 0.0

    for name, value in (("standardize", standardize), ("chest", lambda folder, number: tmp_path / "chest")):
        monkeypatch.setitem(module["workers"].__globals__, name, value)
    row = module["workers"](2, tmp_path)
    first, *others = sorted(before)[:2]
    assert seen == 2 * [
        (6, flags, cores) for flags, cores in ((("--workers=2",), {first, *others}), ((), {first}), ((), {first, *others}))
    ]
    assert (row.ours, row.peer, row.measured) == ([2.0, 2.0], [8.0, 8.0], 0.25)
    assert row.note == "one process on both: 4.0 s, 2.00 times the throughput"
    assert os.sched_getaffinity(0) == before


def test_speed_beside_another_checkout(tmp_path):
    """What stands beside is run from the other checkout, and its time is the peer's."""
    module = runpy.run_path(str(ROOT / "benchmarks/speed.py"))
    (tmp_path / "before").mkdir()
    (tmp_path / "before/reconstruct.py").write_text(
        "import os, time; time.sleep(1)\nend = time.process_time() + 2\n"
        "while time.process_time() < end: pass\nassert os.environ['PYTHONPATH'].endswith('before')\nraise SystemExit(3)"
    )
    row = module["start_up"]("help", 1, tmp_path, tmp_path / "before")
    assert 2 <= row.peer[0] < 3
    assert row.measured == row.ours[0] / row.peer[0] < row.limit
    assert module["start_up"]("help", 1, tmp_path, None).peer == []
