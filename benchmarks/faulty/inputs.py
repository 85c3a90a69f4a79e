"""Damaged archives, NIfTI files and model folders: refused by name or read, never a traceback, and nothing left behind."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np

from faulty.kills import write_series
from faulty.mutations import damaged_bytes
from faulty.runs import reconstruct
from stan_ct.dicom.archive import unpacked
from stan_ct.dicom.find import find_series
from stan_ct.errors import UsageError
from stan_ct.models.checksums import SHIPPED, SUMS, InvalidModel, ModelNotFound
from stan_ct.models.folder import check_model

NAMES = ("../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:evil", "a\0b", "x" * 300, "\u202eevil", "0.dcm/0.dcm", "")
"""Names that members of an archive may come to have."""
MODEL = SHIPPED / "default"
TREE = 50
"""NIfTI files of one run."""


def measure_archives(work: Path, number: int, faults: list[str]) -> str:
    """Unpacks damaged .zip archives of a series, and searches what they hold."""
    paths = write_series(work / "in", 1)
    told: Counter[str] = Counter()
    for n in range(number):
        archive = work / "a.zip"
        archive.write_bytes(_odd_archive(paths))
        try:
            with unpacked(archive, work / "out") as folder:
                told[f"{find_series(folder).slices} slices found"] += 1
        except UsageError:
            told["refused"] += 1
        except OSError as error:
            told["no file system takes it"] += 1
            if error.errno is None:
                faults.append(f"archive {n}: {error!r}")
        except Exception as error:
            faults.append(f"archive {n}: {error!r}")
        if left := sorted(path.name for path in work.iterdir() if path.name not in ("in", "a.zip")):
            faults.append(f"archive {n} left {left}")
        if Path("/tmp/evil").exists() or (work.parent / "evil").exists():
            faults.append(f"archive {n} wrote elsewhere")
    return f"{number} damaged archives: {_told(told)}"


def _odd_archive(paths: list[Path]) -> bytes:
    """An archive of a series: with an odd member, with a link, packed a thousandfold, or with bytes damaged."""
    kind, file = random.randrange(4), io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as opened:
        for path in paths:
            opened.writestr(path.name, path.read_bytes())
        if kind == 0:
            opened.writestr(random.choice(NAMES) or "empty", b"x")
        elif kind == 1:
            link = zipfile.ZipInfo("link")
            link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            opened.writestr(link, "/etc/passwd")
        elif kind == 2:
            opened.writestr("zeros", bytes(random.randint(1, 20_000_000)), zipfile.ZIP_DEFLATED)
    return damaged_bytes(file.getvalue()) if kind == 3 else file.getvalue()


def measure_nifti(work: Path, number: int, faults: list[str]) -> str:
    """Standardizes damaged NIfTI files in trees; every file must be accounted for, and no source changed."""
    told: Counter[str] = Counter()
    for start in range(0, number, TREE):
        tree = work / f"{start}"
        (tree / "in").mkdir(parents=True)
        for n in range(min(TREE, number - start)):
            packed = random.random() < 0.5
            content = _odd_nifti(packed)
            (tree / "in" / f"{n}.nii{'.gz' if packed else ''}").write_bytes(content)
        before = _digests(tree / "in")
        code, said = reconstruct(tree / "in", tree / "out", "--kernel=B").wait(faults)
        if _digests(tree / "in") != before:
            faults.append(f"NIfTI {start}: sources were changed")
        if code not in (0, 2, 3):
            faults.append(f"NIfTI {start}: exit code {code}: {said[-1000:]}")
            continue
        rows = list(csv.DictReader((tree / "out/series.csv").open(newline="")))
        named = {row["source_folder"] for row in rows}
        if lost := {f"{n}" for n in range(len(before))} - named:
            faults.append(f"NIfTI {start}: files {sorted(lost)} are in no table")
        faults += [f"NIfTI {row['source_folder']}: {row}" for row in rows if row["reason"] == "failed"]
        made = {path.name.removesuffix(".nii.gz") for path in (tree / "out").glob("nifti/*.nii.gz")}
        written = {row["source_folder"] for row in rows if row["output_folder"]}
        if made != written:
            faults.append(f"NIfTI {start}: volumes {made ^ written} have no series, or the reverse")
        told["standardized"] += len(written)
        told["refused"] += len(named - written)
        shutil.rmtree(tree)
    return f"{number} damaged NIfTI files: {_told(told)}"


def _odd_nifti(packed: bool) -> bytes:
    """A volume of noise, whose header, values or packed bytes are damaged."""
    rng = np.random.default_rng(random.getrandbits(32))
    affine = np.diag([*rng.choice((-0.8, 0.8), 2), 2.0, 1.0])
    volume = rng.normal(40, 30, (24, 20, 4)).astype(random.choice((np.int16, np.float32, np.float64)))
    content = nibabel.Nifti1Image(volume, affine).to_bytes()
    where = random.randrange(4)
    if where < 2:
        content = damaged_bytes(content[:352]) + content[352:]
    elif where == 2:
        content = damaged_bytes(content)
    if packed:
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        content = packer.compress(content) + packer.flush()
        content = damaged_bytes(content) if where == 3 else content
    return content


def measure_models(work: Path, number: int, faults: list[str]) -> str:
    """Checks model folders one of whose files is damaged, with the hashes of their files and without."""
    told: Counter[str] = Counter()
    names = sorted(
        path.name for path in MODEL.iterdir() if path.suffix in (".json", ".npz", ".txt") and path.stem != "networks"
    )
    sums = "".join(f"{hashlib.sha256((MODEL / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    for n in range(number):
        folder = work / "model"
        folder.mkdir(parents=True)
        damaged, hashed = random.choice([*names, *([SUMS] * (n % 2))]), n % 2
        for name in names:
            shutil.copy(MODEL / name, folder / name) if name != damaged else None
        if damaged != SUMS:
            content = (MODEL / damaged).read_bytes()
            place = random.choice((0, max(len(content) - 3000, 0), random.randrange(len(content))))
            (folder / damaged).write_bytes(
                content[:place] + damaged_bytes(content[place : place + 3000]) + content[place + 3000 :]
            )
        if hashed:
            (folder / SUMS).write_bytes(damaged_bytes(sums.encode()) if damaged == SUMS else sums.encode())
        try:
            check_model(folder)
            told["hold another value"] += 1
            if hashed and damaged != SUMS and hashlib.sha256((folder / damaged).read_bytes()).hexdigest() not in sums:
                faults.append(f"model {n}: {damaged} was damaged, and its hash not compared")
        except (InvalidModel, ModelNotFound):
            told["refused"] += 1
        except Exception as error:
            faults.append(f"model {n}, {damaged}: {error!r}")
        shutil.rmtree(folder)
    return f"{number} damaged model folders: {_told(told)}"


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _told(told: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in told.most_common())


def memory() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
