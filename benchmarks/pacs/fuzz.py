"""Conversations that are damaged, sent to a node on loopback."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faulty.kills import write_series
from faulty.mutations import damaged_bytes

from pacs.nodes import NodeProcess, Watched
from pacs.wire import ABORT, ACCEPTED, RELEASE, deliver, encoded, read_pdu, request, store

PATIENCE = 0.3
"""Seconds that an answer is waited for."""
MEMORY = 300.0
"""Most that the node may grow by, MB."""


def measure_fuzz(work: Path, number: int, faults: list[str]) -> str:
    """Sends damaged conversations, and looks at the node afterwards."""
    paths = write_series(work / "in", 1)
    node = NodeProcess(work / "spool", work / "model", "--max_associations=20")
    node.start()
    uid, content = encoded(paths[0])
    before, ends = _memory(node.pid), Counter[str]()
    for _ in range(number):
        name, attack = random.choice(list(ATTACKS.items()))
        with suppress(OSError), socket.create_connection(("127.0.0.1", node.port), 10) as connection:
            connection.settimeout(PATIENCE)
            attack(connection, uid, content)
        ends[name] += 1
    if node.get("/health")[0] != 200:
        faults.append(f"the node is not well: {node.get('/health')[1]}")
    stored = node.number('stan_ct_node_slices_total{result="stored"}')
    answers = [_persist(path, node.port) for path in paths[1:]]
    if answers != ["stored"] * len(answers):
        faults.append(f"whoever comes next is told {answers}")
    if not Watched.until(lambda: not (node.states()["receiving"] + node.states()["standardizing"]), 120):
        faults.append("the node does not finish")
    grown = _memory(node.pid) - before
    if grown > MEMORY:
        faults.append(f"the node grew by {grown:.0f} MB")
    code, said = node.end()
    if code or "Traceback" in said:
        faults.append(f"the node ended with {code}: {said[-2000:]}")
    told = ", ".join(f"{count} x {name}" for name, count in sorted(ends.items()))
    return f"{number} conversations ({told}): {stored:.0f} slices were taken; the node grew by {grown:.0f} MB"


def _persist(path: Path, port: int) -> str:
    """Sends a slice until it is not told that there are too many."""
    answers: list[str] = []
    Watched.until(lambda: answers.append(deliver(path, port)) or answers[-1] not in ("rejected", "closed"), 120)
    return answers[-1]


def _memory(pid: int) -> float:
    """Resident memory of a process, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _converse(connection: socket.socket, *parts: bytes) -> None:
    """Asks for an association, and goes on with some bytes if it is accepted."""
    connection.sendall(request())
    if read_pdu(connection)[0] == ACCEPTED:
        for part in parts:
            connection.sendall(part)
            with suppress(OSError):
                read_pdu(connection)


def _random_bytes(connection: socket.socket, uid: str, content: bytes) -> None:
    connection.sendall(random.randbytes(random.randint(1, 5000)))
    read_pdu(connection)


def _huge_length(connection: socket.socket, uid: str, content: bytes) -> None:
    connection.sendall(struct.pack(">BxL", random.randint(1, 7), random.randint(2**20, 2**32 - 1)))
    for _ in range(64):
        connection.sendall(bytes(65536))


def _damaged_request(connection: socket.socket, uid: str, content: bytes) -> None:
    connection.sendall(damaged_bytes(request()))
    read_pdu(connection)


def _cut_request(connection: socket.socket, uid: str, content: bytes) -> None:
    pdu = request()
    connection.sendall(pdu[: random.randrange(len(pdu))])


def _damaged_store(connection: socket.socket, uid: str, content: bytes) -> None:
    whole = store(uid, content)
    head = damaged_bytes(whole[:300])
    _converse(connection, head + whole[300:])


def _damaged_content(connection: socket.socket, uid: str, content: bytes) -> None:
    _converse(connection, store(uid, damaged_bytes(content[:1500]) + content[1500:]), RELEASE)


def _endless_data(connection: socket.socket, uid: str, content: bytes) -> None:
    part = store(uid, content)
    fragment = struct.pack(">BxLLBB", 4, 16006, 16002, 1, 0) + bytes(16000)
    _converse(connection, part[: part.index(b"\x04\0", 100)], *[fragment * 400] * 4)


def _impatient(connection: socket.socket, uid: str, content: bytes) -> None:
    _converse(connection, store(uid, content) * 20)


def _out_of_turn(connection: socket.socket, uid: str, content: bytes) -> None:
    pdus = [RELEASE, ABORT, store(uid, content), request(), bytes.fromhex("02000000000400000000")]
    for pdu in random.choices(pdus, k=4):
        connection.sendall(pdu)


Attack = Callable[[socket.socket, str, bytes], None]

ATTACKS: dict[str, Attack] = {
    "random bytes": _random_bytes,
    "huge length": _huge_length,
    "damaged request": _damaged_request,
    "request cut short": _cut_request,
    "damaged command": _damaged_store,
    "damaged content": _damaged_content,
    "endless data": _endless_data,
    "requests that do not wait": _impatient,
    "PDUs out of turn": _out_of_turn,
}
