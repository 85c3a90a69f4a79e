"""DICOM as bytes on a socket: what a sender writes and reads, without the library that the node uses to read them."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ACCEPTED, REJECTED, DATA, RELEASED, ABORTED = 2, 3, 4, 6, 7
"""Types of PDUs that a node answers with."""


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def request(calling: str = "SCANNER", called: str = "STAN_CT", sop_class: str = CTImageStorage) -> bytes:
    """A-ASSOCIATE-RQ for one SOP Class in Explicit VR Little Endian, presentation context 1."""
    context = b"\x01\0\0\0" + _item(0x30, sop_class.encode()) + _item(0x40, ExplicitVRLittleEndian.encode())
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3.4")
    items = _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, context) + _item(0x50, user)
    body = struct.pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode()) + items
    return struct.pack(">BxL", 1, len(body)) + body


def _data(content: bytes, is_command: bool, longest: int = 16000) -> bytes:
    """P-DATA-TF PDUs with the fragments of a command or a data set."""
    pdus = b""
    for start in range(0, len(content), longest):
        part = content[start : start + longest]
        header = is_command | (start + longest >= len(content)) << 1
        pdus += struct.pack(">BxLLBB", 4, len(part) + 6, len(part) + 2, 1, header) + part
    return pdus


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def store(sop_uid: str, content: bytes, sop_class: str = CTImageStorage) -> bytes:
    """C-STORE-RQ with its data set."""
    command = _element(0x00000002, _uid(sop_class)) + _element(0x00000100, b"\1\0") + _element(0x00000110, b"\1\0")
    command += _element(0x00000700, b"\0\0") + _element(0x00000800, b"\1\0") + _element(0x00001000, _uid(sop_uid))
    command = _element(0x00000000, struct.pack("<L", len(command))) + command
    return _data(command, True) + _data(content, False)


RELEASE, ABORT = bytes.fromhex("050000000004") + bytes(4), bytes.fromhex("070000000004") + bytes(4)


def encoded(path: Path) -> tuple[str, bytes]:
    """SOP Instance UID and data set of a file in Explicit VR Little Endian."""
    content = path.read_bytes()
    header = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
    meta = struct.unpack_from("<L", content, 140)[0]  # File Meta Information Group Length (0002,0000)
    return str(header.SOPInstanceUID), content[144 + meta :]


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and content of the next PDU; type 0 where the connection has ended."""
    head = _read(connection, 6)
    if len(head) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", head)
    return kind, _read(connection, length)


def _read(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            break
        content += part
    return content


def status(content: bytes) -> int:
    """Status (0000,0900) of a C-STORE-RSP."""
    place = content.find(b"\0\0\0\x09\x02\0\0\0")
    return struct.unpack_from("<H", content, place + 8)[0] if place >= 0 else -1


def deliver(path: Path, port: int, seconds: float = 60.0) -> str:
    """Sends a file over an association of its own: `stored`, `rejected`, or what happened instead."""
    uid, content = encoded(path)
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as connection:
            connection.sendall(request())
            kind, answer = read_pdu(connection)
            if kind != ACCEPTED:
                return {REJECTED: "rejected", 0: "closed"}.get(kind, f"PDU {kind}")
            connection.sendall(store(uid, content))
            kind, answer = read_pdu(connection)
            if kind != DATA or status(answer):
                return f"PDU {kind}, status {status(answer):04X}"
            connection.sendall(RELEASE)
            read_pdu(connection)
            return "stored"
    except OSError as error:
        return type(error).__name__
