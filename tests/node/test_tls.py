"""TLS with certificates on both sides, and peers that are not this machine."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from pacs.archive import Archive
from pacs.nodes import Watched
from pacs.senders import associate, send
from pacs.wire import deliver

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of a hospital's authority, of a node and a sender that it signed, and of a stranger that another one signed."""
    folder, ours, theirs = tmp_path_factory.mktemp("tls"), trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, authority in (("node", ours), ("sender", ours), ("stranger", theirs)):
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


def context(certificates: Path, name: str, side: int = ssl.PROTOCOL_TLS_CLIENT) -> ssl.SSLContext:
    """Context of somebody; without a name, of somebody without a certificate."""
    made = ssl.SSLContext(side)
    made.load_verify_locations(certificates / "ca.pem")
    if name:
        made.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    if side == ssl.PROTOCOL_TLS_SERVER:
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def test_senders_need_a_certificate(start_node, certificates, series):
    """The right one is served, to and fro; the wrong one, none at all, and plain DICOM are not; the door stays open."""
    archive = Archive(tls=context(certificates, "sender", ssl.PROTOCOL_TLS_SERVER))
    archive.open()
    names = {"tls_cert": "node.pem", "tls_key": "node.key", "tls_ca": "ca.pem"}
    files = {flag: str(certificates / name) for flag, name in names.items()}
    node = start_node(send_to=(archive.destination,), **files)
    try:
        with socket.create_connection(("127.0.0.1", node.port)):  # shakes no hands; others are served all the same
            for name in ("stranger", ""):
                assert not associate(node.port, tls=(context(certificates, name), "127.0.0.1")).is_established
            assert deliver(series(1)[0], node.port, 10) in ("closed", "ConnectionResetError", "PDU 3")
            assert send(series(1), node.port, tls=(context(certificates, "sender"), "127.0.0.1")) == []
        assert Watched.until(lambda: len(archive.received) == 3, 120)
        page = node.get("/")[1]
        assert "TLS: peer did not return a certificate" in page
        assert page.count("<td>connection</td>") >= 3
        assert sum(node.states().values()) == 1
    finally:
        archive.close()


FROM_ELSEWHERE = """
import subprocess, sys
for command in ("ip link set lo up", "ip addr add 192.0.2.1/32 dev lo"):
    subprocess.run(command.split(), check=True)
sys.path[:0] = [{benchmarks!r}]
from pathlib import Path
from pacs.nodes import LocalNode
from pacs.wire import read_pdu, request
import socket

def call(node, address):
    try:
        with socket.create_connection((address, node.port), 10) as connection:
            connection.sendall(request())
            return read_pdu(connection)[0]
    except OSError as error:
        return type(error).__name__

spool, model = Path({spool!r}), Path({model!r})
alone = LocalNode(spool / "alone", model)
print(call(alone, "127.0.0.1"), call(alone, "192.0.2.1"))
alone.end()
named = LocalNode(spool / "named", model, host="0.0.0.0", peers=("127.0.0.1",))
print(call(named, "127.0.0.1"), call(named, "192.0.2.1"))
print("address not in --peers" in named.get("/")[1])
named.end()
told = LocalNode(spool / "told", model, host="0.0.0.0", peers=("192.0.2.0/24",))
print(call(told, "192.0.2.1"))
told.end()
"""


def test_other_machines_are_not_let_in_unless_named(tmp_path, model):
    """In a network of its own: the default cannot be reached; a listed network can; others are closed unread."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("needs unshare and ip")
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    script = FROM_ELSEWHERE.format(benchmarks=str(ROOT / "benchmarks"), spool=str(tmp_path), model=str(model))
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    alone, named, said, told = done.stdout.splitlines()
    assert alone == "2 ConnectionRefusedError"
    assert named.split()[0] == "2"
    assert named.split()[1] in ("0", "ConnectionResetError")
    assert (said, told) == ("True", "2")
