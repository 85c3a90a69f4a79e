"""Derived slices on their way to a destination: C-STORE or STOW-RS, one slice after the other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom
import requests
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

from stan_ct.dicom.tolerance import tolerant
from stan_ct.node.destinations import Destination
from stan_ct.node.security import client_context
from stan_ct.node.settings import NodeSettings

SECONDS = 60.0
"""Longest wait for an answer, s."""
DUPLICATE = 0x0111
"""C-STORE status: the destination has the slice already."""

_config.STORE_SEND_CHUNKED_DATASET = True  # files are sent as they are, not decoded and encoded anew


class Unreachable(Exception):
    """A destination does not answer, or cannot take anything now; the message says why."""


class RefusedThere(Exception):
    """A destination answers that it does not take a slice; the message says why."""


def send(destination: Destination, files: Mapping[str, Path], settings: NodeSettings) -> Iterator[str]:
    """Sends slices.

    Args:
        destination: Where to.
        files: SOP Instance UID -> file.
        settings: AE title, certificates, authorization.
    Yields:
        SOP Instance UID of each slice that arrived.
    Raises:
        Unreachable: If the destination is away, or out of resources.
        RefusedThere: If it refuses a slice.
        OSError: If a file cannot be read.
    """
    yield from (_store if destination.title else _stow)(destination, files, settings)


def _store(destination: Destination, files: Mapping[str, Path], settings: NodeSettings) -> Iterator[str]:
    entity = AE(ae_title=settings.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
    entity.connection_timeout = 10.0
    contexts = [build_context(CTImageStorage, syntax) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    tls = (client_context(settings), destination.host) if destination.tls else None
    try:
        association = entity.associate(
            destination.host, destination.port, contexts=contexts, ae_title=destination.title, tls_args=tls
        )
    except Exception as error:  # a name that is not resolved, say
        raise Unreachable(f"no association ({type(error).__name__})") from error
    try:
        if not association.is_established:
            raise Unreachable("association rejected" if association.is_rejected else "no association")
        syntaxes = {context.transfer_syntax[0] for context in association.accepted_contexts}
        if not syntaxes:
            raise Unreachable("CT Image Storage is not accepted")
        for number, (uid, path) in enumerate(files.items()):
            with open(path, "rb"):
                pass  # a file that is gone is not the destination's fault
            _check_status(_send_one(association, path, ExplicitVRLittleEndian in syntaxes, number))
            yield uid
    finally:
        with suppress(Exception):
            association.release() if association.is_established else association.abort()


@tolerant()
def _send_one(association: Any, path: Path, as_it_is: bool, number: int) -> pydicom.Dataset:
    """Sends a file; a destination that takes Implicit VR alone gets it converted."""
    message = number % 65535 + 1
    try:
        return association.send_c_store(path if as_it_is else pydicom.dcmread(path), msg_id=message)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise Unreachable(f"the association ended ({type(error).__name__})") from error


def _check_status(answer: pydicom.Dataset) -> None:
    """Returns if the slice is stored there."""
    if "Status" not in answer:
        raise Unreachable("no answer")
    status = int(answer.Status)
    if status in (0, 1, DUPLICATE) or 0xB000 <= status <= 0xBFFF:  # stored, with warnings perhaps
        return
    if 0xA700 <= status <= 0xA7FF:
        raise Unreachable(f"out of resources (status {status:04X})")
    raise RefusedThere(f"C-STORE status {status:04X}")


def _stow(destination: Destination, files: Mapping[str, Path], settings: NodeSettings) -> Iterator[str]:
    with requests.Session() as session:
        session.trust_env = False  # neither proxies nor passwords that the settings do not name
        session.verify = settings.tls_ca or True
        if settings.tls_cert:
            session.cert = (settings.tls_cert, settings.tls_key)
        headers = {"Accept": "application/dicom+json"}
        if settings.authorization_file:
            headers["Authorization"] = Path(settings.authorization_file).read_text(encoding="utf-8").strip()
        for uid, path in files.items():
            _post(session, f"{destination.url}/studies", path, headers)
            yield uid


def _post(session: requests.Session, url: str, path: Path, headers: Mapping[str, str]) -> None:
    boundary = uuid.uuid4().hex
    body = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (
        boundary.encode(),
        path.read_bytes(),
        boundary.encode(),
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    try:
        answer = session.post(
            url, body, headers={**headers, "Content-Type": kind}, timeout=(10, SECONDS), allow_redirects=False
        )
    except requests.RequestException as error:
        raise Unreachable(f"no answer ({type(error).__name__})") from error
    if answer.status_code in (401, 403, 404, 408, 429) or answer.status_code >= 500 or 300 <= answer.status_code < 400:
        raise Unreachable(f"HTTP status {answer.status_code}")  # of the service, not of this slice
    failures = _failures(answer)
    if any(code != DUPLICATE for code in failures) or not (answer.ok or failures):
        reason = ", ".join(f"{code:04X}" for code in failures) or "without a reason"
        raise RefusedThere(f"HTTP status {answer.status_code}, failure {reason}")


def _failures(answer: requests.Response) -> list[int]:
    """Failure Reason (0008,1197) of each item of Failed SOP Sequence (0008,1198); 0 where none is given."""
    try:
        failed = answer.json().get("00081198", {}).get("Value", [])
        return [int(item.get("00081197", {}).get("Value", [0])[0]) for item in failed]
    except (ValueError, AttributeError, TypeError, IndexError):  # no JSON, or another than STOW-RS asks for
        return []
