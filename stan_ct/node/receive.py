"""Slices that come in: who may send them, what is taken, and the answer, which is given once they are on the disk."""

from __future__ import annotations

import shutil
from threading import Lock, Thread
from typing import Any, cast

from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from stan_ct.dicom.identity import IMPLEMENTATION_CLASS_UID
from stan_ct.errors import UsageError
from stan_ct.node.identity import Unreadable, read_identity
from stan_ct.node.log import log, log_fault
from stan_ct.node.security import server_context
from stan_ct.node.server import LimitedServer
from stan_ct.node.settings import NodeSettings
from stan_ct.node.spool import Spool
from stan_ct.node.tally import Tally

SYNTAXES = [
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, RLELossless),
]
"""Transfer syntaxes that are taken. Deflated ones are not: a few bytes of them may hold gigabytes."""

VERIFICATION = "1.2.840.10008.1.1"
"""SOP Class of C-ECHO."""

SUCCESS, OUT_OF_RESOURCES, MISMATCH, UNREADABLE, DUPLICATE = 0x0000, 0xA700, 0xA900, 0xC000, 0x0111
"""Statuses of C-STORE."""

PERMANENT, TRANSIENT, USER, PROVIDER = 1, 2, 1, 3
CALLING_UNKNOWN, CALLED_UNKNOWN, LIMIT_EXCEEDED = 3, 7, 2
"""Results, sources and reasons of A-ASSOCIATE-RJ."""


class Receiver:
    """The storage service of a node.

    Args:
        settings: Who may send, and limits.
        spool: Where slices go.
        tally: Where they are counted.
    Raises:
        UsageError: If a certificate cannot be used.
        OSError: If the port cannot be had.
    """

    def __init__(self, settings: NodeSettings, spool: Spool, tally: Tally) -> None:
        self._settings, self._spool, self._tally = settings, spool, tally
        self._admitted: set[Association] = set()
        self._lock = Lock()
        _config.LOG_HANDLER_LEVEL = "none"  # what is sent is nobody's to log
        self._entity = AE(ae_title=settings.ae_title)
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.maximum_pdu_size = settings.max_pdu
        self._entity.maximum_associations = 1_000_000  # counted here, one after the other
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = 60
        self._entity.require_calling_aet, self._entity.require_called_aet = list(settings.calling), True  # should _admit fail
        self._entity.add_supported_context(VERIFICATION)
        self._entity.add_supported_context(CTImageStorage, SYNTAXES)
        handlers: list = [(evt.EVT_REQUESTED, self._admit), (evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, self._echo)]
        tls = server_context(settings)
        try:
            self._server = cast(
                LimitedServer,
                self._entity.make_server(
                    (settings.host, settings.port),
                    evt_handlers=handlers,
                    server_class=LimitedServer,
                    settings=settings,
                    tally=tally,
                    tls=tls,
                ),
            )
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise UsageError(f"cannot listen at {where} ({error.strerror}): choose another --port or --host") from error
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="dicom", daemon=True)

    @property
    def port(self) -> int:
        """Port that is listened at."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Takes connections from now on."""
        self._thread.start()

    @property
    def is_listening(self) -> bool:
        """Whether connections are taken."""
        return self._thread.is_alive()

    @property
    def associations(self) -> int:
        """Number of associations that are open."""
        with self._lock:
            self._admitted = {each for each in self._admitted if each.is_alive()}
            return len(self._admitted)

    def stop(self) -> None:
        """Takes no more connections, and ends those that are open; a slice that has no answer yet is sent again."""
        if self._thread.is_alive():
            self._server.shutdown_connections()
        self._server.server_close()

    def _admit(self, event: Any) -> None:
        """Rejects an association of a stranger, to somebody else, or beyond the limit."""
        association, request = event.assoc, event.assoc.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        if calling not in self._settings.calling:
            self._reject(association, calling, "calling AE title not in --calling", (PERMANENT, USER, CALLING_UNKNOWN))
        elif called != self._settings.ae_title:
            self._reject(association, calling, "called AE title is not --ae_title", (PERMANENT, USER, CALLED_UNKNOWN))
        elif not self._enter(association):
            self._reject(association, calling, "more than --max_associations", (TRANSIENT, PROVIDER, LIMIT_EXCEEDED))
        else:
            self._tally.count("associations")

    def _enter(self, association: Association) -> bool:
        with self._lock:
            self._admitted = {each for each in self._admitted if each.is_alive()}
            if len(self._admitted) >= self._settings.max_associations:
                return False
            self._admitted.add(association)
            return True

    def _reject(self, association: Association, who: str, reason: str, answer: tuple[int, int, int]) -> None:
        self._tally.refuse("association", who, reason)
        log("association rejected", who=who, reason=reason)
        association.acse.send_reject(*answer)
        association.kill()

    def _echo(self, event: Any) -> int:
        self._tally.count("echoes")
        return SUCCESS

    def _store(self, event: Any) -> int:
        """Takes a slice, and returns the status of C-STORE: success once it is on the disk."""
        who = event.assoc.requestor.ae_title.strip()
        try:
            content = event.encoded_dataset()
            if shortage := self._shortage():
                return self._refuse(who, shortage, OUT_OF_RESOURCES)
            if len(content) > 1e6 * self._settings.max_slice_mb:
                return self._refuse(who, "slice larger than --max_slice_mb", OUT_OF_RESOURCES)
            identity = read_identity(content)
            if str(event.request.AffectedSOPInstanceUID) != identity.sop_uid:
                return self._refuse(who, "SOP Instance UID differs from that of the request", MISMATCH)
            stored = self._spool.add(identity, content, who)
        except Unreadable as error:
            return self._refuse(who, str(error), UNREADABLE)
        except OSError as error:
            return self._refuse(who, f"cannot be written: {error.strerror or error}", OUT_OF_RESOURCES)
        except Exception as error:
            log_fault("a slice could not be taken", error, who=who)
            return self._refuse(who, f"fault of STAN-CT ({type(error).__name__})", UNREADABLE)
        if stored == "conflict":
            return self._refuse(who, "another slice with this SOP Instance UID is there", DUPLICATE)
        self._tally.count("slices", stored)
        self._tally.count("bytes", amount=len(content))
        return SUCCESS

    def _refuse(self, who: str, reason: str, status: int) -> int:
        self._tally.refuse("slice", who, reason)
        log("slice refused", who=who, reason=reason, status=f"{status:04X}")
        return status

    def _shortage(self) -> str:
        """What the spool lacks; empty if there is room."""
        return shortage(self._spool, self._settings)


def shortage(spool: Spool, settings: NodeSettings) -> str:
    """Why no slice can be taken now; empty if there is room."""
    if spool.size() > 1e9 * settings.max_spool_gb:
        return "the spool is full (--max_spool_gb)"
    if shutil.disk_usage(spool.folder).free < 1e9 * settings.min_free_gb:
        return "the disk is full (--min_free_gb)"
    return ""
