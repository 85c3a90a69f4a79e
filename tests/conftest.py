"""What every folder of tests shares: the real CT, and a TensorFlow that keeps quiet."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """Folder of real CT series, unpacked once into `.ct`, by however many test processes at a time."""
    unpacked, script = ROOT / ".ct" / "ct", ROOT.parent / "shared" / "unpack-ct.sh"
    if (unpacked / ".complete").exists():
        return unpacked
    if not script.exists():
        pytest.skip("real CT is not here: ../shared/unpack-ct.sh does not exist")
    unpacked.parent.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="unpacking-", dir=unpacked.parent))
    try:
        subprocess.run(["sh", script, scratch], check=True, stdout=subprocess.DEVNULL)
        (scratch / "ct").rename(unpacked)
    except OSError:  # another process was first
        if not (unpacked / ".complete").exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return unpacked
