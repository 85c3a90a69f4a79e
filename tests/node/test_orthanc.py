"""The way to a real PACS and back: Orthanc, where it is installed."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pacs.nodes import Watched
from pacs.ports import free_port
from pacs.senders import send

ORTHANC = shutil.which("Orthanc")
DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
RECIPE = Path(__file__).resolve().parents[2] / "docs" / "PACS.md"
pytestmark = pytest.mark.skipif(not ORTHANC, reason="Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)")


class Orthanc:
    """A scratch Orthanc on loopback, which forwards stable series to a node as docs/PACS.md shows."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.folder, self.http, self.dicom, self._process = folder, free_port(), free_port(), None
        plugins = [str(DICOM_WEB)] if DICOM_WEB.exists() else []
        folder.mkdir()
        settings = {
            "Name": "scratch", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http, "DicomPort": self.dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomCheckCalledAet": True, "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowEcho": False, "StableAge": 1, "Plugins": plugins,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomModalities": {
                "scanner": ["SCANNER", "127.0.0.1", 1], "stan_ct": ["STAN_CT", "127.0.0.1", node_port],
            },
        }  # fmt: skip
        settings["LuaScripts"] = [str(folder / "stan_ct.lua")]
        (script,) = re.findall(r"^```lua\n(.*?)^```", RECIPE.read_text(), re.DOTALL | re.MULTILINE)
        (folder / "stan_ct.lua").write_text(script)
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self) -> None:
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115 # closed by `stop`
        self._process = subprocess.Popen([ORTHANC, self.folder / "orthanc.json"], stdout=self._log, stderr=self._log)
        if not Watched.until(self._answers, 60):
            self.stop()
            pytest.fail((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def get(self, path: str, body: bytes | None = None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", body, timeout=30) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    def datasets(self, series: str) -> list[pydicom.Dataset]:
        """Slices of a series, in the order of their numbers."""
        files = [self.get(f"/instances/{each['ID']}/file") for each in self.get(f"/series/{series}/instances")]
        return sorted((pydicom.dcmread(io.BytesIO(file)) for file in files), key=lambda d: int(d.InstanceNumber))


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_round_trip(tmp_path, start_node, series, way):
    """Stored in Orthanc, sent on, standardized, back: both series in one study, both open, each slice once."""
    if way == "STOW-RS" and not DICOM_WEB.exists():
        pytest.skip("Orthanc has no DICOMweb plugin (Debian: orthanc-dicomweb)")
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    to = f"ORTHANC@127.0.0.1:{orthanc.dicom}" if way == "C-STORE" else f"http://127.0.0.1:{orthanc.http}/dicom-web"
    node = start_node(port=port, calling=("ORTHANC",), send_to=(to,))
    orthanc.start()
    try:
        assert send(series(7), orthanc.dicom, called="ORTHANC") == []
        source = orthanc.get("/series")[0]
        assert Watched.until(lambda: len(orthanc.get("/series")) == 2 and len(orthanc.get("/instances")) == 6, 120)
        (study,) = orthanc.get("/studies")
        assert len(orthanc.get(f"/studies/{study}")["Series"]) == 2
        (derived,) = set(orthanc.get("/series")) - {source}
        before, after = orthanc.datasets(source), orthanc.datasets(derived)
        assert [d.SourceImageSequence[0].ReferencedSOPInstanceUID for d in after] == [d.SOPInstanceUID for d in before]
        for one, other in zip(before, after, strict=True):
            assert one.StudyInstanceUID == other.StudyInstanceUID
            assert one.PatientID == other.PatientID
            assert one.pixel_array.shape == other.pixel_array.shape
            assert np.ptp(other.pixel_array) > 0
            assert not np.array_equal(one.pixel_array, other.pixel_array)
        for name in (source, derived):
            instance = orthanc.get(f"/series/{name}")["Instances"][0]
            assert orthanc.get(f"/instances/{instance}/preview").startswith(b"\x89PNG")
        time.sleep(3)  # the derived series is stable by then, and must not be sent on
        assert len(orthanc.get("/instances")) == 6
        assert {state: n for state, n in node.states().items() if n} == {"standardized": 1}
    finally:
        orthanc.stop()
