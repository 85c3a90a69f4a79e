"""Scanners that send series, and keep what was not taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

VERIFICATION = "1.2.840.10008.1.1"


def associate(port: int, title: str = "SCANNER", called: str = "STAN_CT", tls: Any = None, syntaxes: Sequence[str] = ()) -> Any:
    """An association with a node on loopback, or one that was refused."""
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    entity.connection_timeout = 10
    contexts = [build_context(CTImageStorage, syntax) for syntax in syntaxes] or [build_context(CTImageStorage)]
    contexts.append(build_context(VERIFICATION))
    return entity.associate("127.0.0.1", port, contexts=contexts, ae_title=called, tls_args=tls)


def send(paths: Sequence[Path], port: int, **options: Any) -> list[Path]:
    """Sends files as they are; returns those that were not taken, in their order."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    association, taken = associate(port, **options), set()
    try:
        for number, path in enumerate(paths):
            if not association.is_established:
                break
            answer = association.send_c_store(path, msg_id=number % 65535 + 1)
            if "Status" in answer and answer.Status == 0x0000:
                taken.add(path)
    except (RuntimeError, ValueError, OSError):  # the node has gone
        pass
    finally:
        if association.is_established:
            association.release()
    return [path for path in paths if path not in taken]
