"""An archive that stands in for a PACS: it can be away, out of resources, and it remembers what came how often."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from pacs.ports import free_port


class Archive:
    """A storage SCP on loopback.

    Args:
        title: AE title.
        syntaxes: Transfer syntaxes that it takes.
        folder: Where files are kept; None: nowhere.
        tls: TLS context; None without TLS.
    """

    def __init__(
        self,
        title: str = "PACS",
        syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        folder: Path | None = None,
        tls: Any = None,
    ) -> None:
        self.title, self.port, self.status = title, free_port(), 0x0000
        self.received: Counter[str] = Counter()
        self.contents: dict[str, set[str]] = defaultdict(set)
        self.series: dict[str, set[str]] = defaultdict(set)
        self._syntaxes, self._folder, self._tls, self._lock = list(syntaxes), folder, tls, threading.Lock()
        self._entity: AE | None = None

    @property
    def destination(self) -> str:
        """As `--send_to` names it."""
        return f"{'tls://' if self._tls else ''}{self.title}@127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listens."""
        self._entity = AE(ae_title=self.title)
        self._entity.require_called_aet = True
        self._entity.add_supported_context(CTImageStorage, self._syntaxes)
        handlers: list = [(evt.EVT_C_STORE, self._store)]
        self._entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self._tls)

    def close(self) -> None:
        """Is away."""
        if self._entity is not None:
            self._entity.shutdown()
            self._entity = None

    def _store(self, event: Any) -> int:
        if self.status:
            return self.status
        content = event.encoded_dataset(include_meta=False)
        uid, series = str(event.request.AffectedSOPInstanceUID), str(event.dataset.SeriesInstanceUID)
        with self._lock:
            self.received[uid] += 1
            self.contents[uid].add(hashlib.sha256(content).hexdigest())
            self.series[series].add(uid)
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / f"{uid}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    def datasets(self) -> list[pydicom.Dataset]:
        """What was kept in the folder."""
        return [pydicom.dcmread(path) for path in sorted(self._folder.glob("*.dcm"))] if self._folder else []
