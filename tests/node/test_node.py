"""A node as people run it: who is let in, what comes back, what it shows, and what it does when its PACS is away."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom
import pytest
from pacs.archive import Archive
from pacs.nodes import Watched
from pacs.senders import associate, send
from pacs.wire import deliver
from prometheus_client.parser import text_string_to_metric_families
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless

from stan_ct.cli.main import main

until = Watched.until
CHROMIUM = shutil.which("chromium")


def done(node: Watched) -> bool:
    """Whether nothing is under way."""
    states = node.states()
    return not states["receiving"] + states["standardizing"] and sum(states.values()) > 0


def test_series_come_back_standardized_once(start_node, archive, series, model, tmp_path, monkeypatch):
    """The bytes that `stan-ct reconstruct` writes, in the study that they came in; sent again, nothing more comes."""
    node = start_node(send_to=(archive.destination,))
    assert associate(node.port).send_c_echo().Status == 0
    for number in (1, 2):
        assert send(series(number), node.port) == []
    assert send(series(3, syntax="JPEG-LS"), node.port, syntaxes=[JPEGLSLossless]) == []
    assert until(lambda: sum(archive.received.values()) == 9 and node.states()["standardized"] == 3, 60)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for number, options in ((1, {}), (2, {}), (3, {"syntax": "JPEG-LS"})):
        folder = series(number, **options)[0].parent
        assert main(["reconstruct", str(folder), str(tmp_path / f"out{number}"), f"--model={model}"]) == 0
    expected = {}
    for path in tmp_path.glob("out*/series/*/*.dcm"):
        dataset = pydicom.dcmread(path)
        expected[str(dataset.SOPInstanceUID)] = dataset
        assert dataset.StudyInstanceUID == pydicom.dcmread(series(1)[0]).StudyInstanceUID
    assert set(archive.received) == set(expected)
    assert set(archive.received.values()) == {1}
    assert send(series(1), node.port) == []
    time.sleep(1.5)
    assert set(archive.received.values()) == {1}
    assert node.number('stan_ct_node_slices_total{result="known"}') == 3


def test_strangers_are_rejected_and_named(start_node, series):
    """A calling AE title that is not listed, a called one that is another's; page and metrics say so, and escape them."""
    node = start_node()
    for title, called in (("<b>EVIL</b>", "STAN_CT"), ("SCANNER", "OTHER")):
        association = associate(node.port, title, called)
        assert association.is_rejected
        assert not association.is_established
    page = node.get("/")[1]
    assert "&lt;b&gt;EVIL&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "calling AE title not in --calling" in page
    assert node.number('stan_ct_node_refused_total{reason="association: calling AE title not in --calling"}') == 1
    assert node.number('stan_ct_node_refused_total{reason="association: called AE title is not --ae_title"}') == 1
    assert send(series(1), node.port, title="EVIL") == series(1)
    assert sum(node.states().values()) == 0


def test_what_cannot_be_standardized_is_named(start_node, series):
    """A kernel the model does not know, another kind of image, and a conflicting slice: each with its reason; no patient."""
    node = start_node()

    def no_rescale(dataset, z):
        del dataset.RescaleSlope

    assert send(series(5, edit=no_rescale), node.port) == []
    changed = [p.with_suffix(".changed") for p in series(6)[:1]]
    assert send(series(6), node.port) == []
    for path, source in zip(changed, series(6), strict=False):
        path.write_bytes(source.read_bytes().replace(b"Thorax 2.5", b"Thorax 9.9"))
    assert send(changed, node.port) == changed
    assert until(lambda: node.states()["refused"] == 1 and node.states()["standardized"] == 1, 60)
    assert until(lambda: "no_rescale" in (node.spool / "failures.csv").read_text(), 10)
    page, log = node.get("/")[1], node.log()
    assert "no_rescale" in page
    assert "another slice with this SOP Instance UID is there" in page
    for text in (page, log, node.get("/metrics")[1], node.get("/health")[1], (node.spool / "failures.csv").read_text()):
        for private in ("Doe", "Jane", "19500101", "P1<", "A1"):
            assert private not in text
    uid = str(pydicom.dcmread(series(5)[0]).SeriesInstanceUID)
    assert uid not in page
    assert uid in (node.spool / "failures.csv").read_text()


def test_status_is_read_only_and_speaks_prometheus(start_node):
    """GET alone; metrics parse; unknown pages are not found."""
    node = start_node()
    status, text = node.get("/health")
    assert (status, json.loads(text)["status"]) == (200, "ok")
    families = {family.name for family in text_string_to_metric_families(node.get("/metrics")[1])}
    assert {"stan_ct_node_up", "stan_ct_node_series", "stan_ct_node_slices", "stan_ct_node_refused"} <= families
    assert node.get("/../etc/passwd")[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
        connection.request(method, "/", b"x=1")
        assert connection.getresponse().status == 501
    connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=10)
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_one_node_at_a_time(start_process, capsys, model):
    """The second one on a spool says who holds it."""
    node = start_process()
    assert main(["node", str(node.spool), "--calling=A", f"--model={model}", "--port=0", "--http_port=-1"]) == 1
    assert f"is in use by process {node.pid} on " in (said := capsys.readouterr().err)
    assert "--spool_dir" in said
    code, said = node.end()
    assert code == 0
    assert said == node.log()
    assert '"event": "stopped"' in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model=nowhere",), "nowhere"),
        (("--host=0.0.0.0",), "name those that may connect"),
        (("--port=1.5",), "port"),
    ],
)
def test_bad_usage_ends_with_a_word(tmp_path, capsys, flags, words):
    """Exit code 1, no traceback."""
    assert main(["node", str(tmp_path / "spool"), "--calling=A", "--port=0", "--http_port=-1", *flags]) == 1
    assert words in capsys.readouterr().err


def test_a_pacs_that_is_away_gets_everything_later(start_node, series):
    """Closed, then out of resources, then open; the node says that it waits, and is well."""
    archive = Archive()
    node = start_node(send_to=(archive.destination,))
    assert send(series(1), node.port) == []
    assert until(lambda: json.loads(node.get("/health")[1])["destinations_away"] == {archive.destination: "no association"}, 60)
    assert node.get("/health")[0] == 200
    archive.status = 0xA700
    archive.open()
    try:
        assert until(lambda: "out of resources (status A700)" in node.get("/")[1], 30)
        archive.status = 0
        assert until(lambda: len(archive.received) == 3, 30)
        assert until(lambda: json.loads(node.get("/health")[1])["destinations_away"] == {}, 10)
        assert set(archive.received.values()) == {1}
    finally:
        archive.close()


def test_several_destinations_and_syntaxes(start_node, archive, series):
    """One takes Implicit VR alone and gets it converted; one is refused everything; the third is not kept waiting by either."""
    old, grumpy = Archive("OLD", (ImplicitVRLittleEndian,)), Archive("GRUMPY")
    grumpy.status = 0xA900
    old.open()
    grumpy.open()
    try:
        node = start_node(send_to=tuple(each.destination for each in (archive, old, grumpy)))
        assert send(series(1), node.port) == []
        assert until(lambda: len(archive.received) == 3 and len(old.received) == 3, 60)
        assert set(archive.received) == set(old.received)
        assert until(lambda: "C-STORE status A900" in node.get("/")[1], 10)
        assert grumpy.received == {}
    finally:
        old.close()
        grumpy.close()


class _Stow(BaseHTTPRequestHandler):
    """A STOW-RS service that keeps what comes."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [43264]}}]}}
        content = json.dumps(failed if status == 202 else {}).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_stow_rs(start_node, series, tmp_path):
    """Each slice in a request of its own; 503 and 401 are tried again; a failure is told; no secret is."""
    service = HTTPServer(("127.0.0.1", 0), _Stow)
    service.requests, service.statuses = [], [503, 401, 200, 202]
    threading.Thread(target=service.serve_forever, daemon=True).start()
    secret = tmp_path / "authorization"
    secret.write_text("Bearer s3cr3t\n")
    try:
        url = f"http://127.0.0.1:{service.server_port}/dicom-web"
        node = start_node(send_to=(url,), authorization_file=str(secret))
        assert send(series(1), node.port) == []
        assert until(lambda: "failure A900" in node.get("/")[1], 60)
        assert len(service.requests) == 4
        for path, headers, body in service.requests:
            assert path == "/dicom-web/studies"
            assert headers["Authorization"] == "Bearer s3cr3t"
            kind, _, boundary = headers["Content-Type"].rpartition("boundary=")
            assert kind == 'multipart/related; type="application/dicom"; '
            head, _, rest = body.partition(b"\r\n\r\n")
            assert head == b"--" + boundary.encode() + b"\r\nContent-Type: application/dicom"
            assert rest.endswith(b"\r\n--" + boundary.encode() + b"--\r\n")
            assert rest[128:132] == b"DICM"
        bodies = [body.partition(b"\r\n\r\n")[2][:-40] for _, _, body in service.requests]
        assert bodies[0] == bodies[1] == bodies[2] != bodies[3]
        assert "s3cr3t" not in node.log() + node.get("/")[1]
    finally:
        service.shutdown()
        service.server_close()


@pytest.mark.parametrize("number", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_many_associations_at_once(start_node, archive, series, number):
    """Each is served or told that there are too many; whoever was refused comes again; nothing is lost."""
    node = start_node(send_to=(archive.destination,), max_associations=number // 5, slices=10, quiet_time=60.0)
    paths = [path for one in range(1, number // 10 + 1) for path in series(one, slices=10)]
    together, answers = threading.Barrier(number), []

    def send_until_taken(path: Path) -> None:
        together.wait()
        for _ in range(100):
            answers.append(deliver(path, node.port))
            if answers[-1] == "stored":
                return
            time.sleep(random.uniform(0.5, 1.5))

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(send_until_taken, paths))
    assert answers.count("stored") == number
    assert set(answers) - {"stored", "rejected", "closed", "ConnectionResetError"} == set()
    assert until(lambda: len(archive.received) == number and done(node), 120)
    assert set(archive.received.values()) == {1}
    assert len(archive.series) == number // 10
    assert node.number("stan_ct_node_associations_total") >= number
    assert node.get("/health")[0] == 200


def test_limits_of_disk_and_slice(start_node, series):
    """A full spool says so to the sender and to whoever watches; a slice that is too large ends its association."""
    full = start_node("full", max_spool_gb=0.001)
    big = series(20, slices=8, side=512)
    left = send(big, full.port)
    assert 0 < len(left) < 8
    status, text = full.get("/health")
    assert status == 503
    assert "the spool is full (--max_spool_gb)" in text
    small = start_node("small", max_slice_mb=0.1)
    assert send(big[:1], small.port) == big[:1]
    assert send(series(1), small.port) == []
    assert "slice larger than --max_slice_mb" in small.get("/")[1]


def test_a_crash_of_the_standardizing_process_costs_one_series(start_process, archive, series):
    """Killed over and over, the series is given up and named; the node goes on, and others are standardized."""
    node = start_process(f"--send_to={archive.destination}", "--quiet_time=0.2")
    killed = 0

    def children() -> list[int]:
        found = []
        for task in os.listdir(f"/proc/{node.pid}/task"):
            found += map(int, Path(f"/proc/{node.pid}/task/{task}/children").read_text().split())
        return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    assert send(series(1), node.port) == []
    while node.states()["failed"] == 0 and killed < 200:
        if node.states()["standardizing"]:
            for pid in children():
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    assert (node.spool / "spool.sqlite").stat().st_mode & 0o077 == 0
    assert "ended with signal 9 (Killed)" in node.get("/")[1]
    assert send(series(2), node.port) == []
    assert until(lambda: node.states()["standardized"] == 1, 60)
    assert send(series(1), node.port) == []
    assert until(lambda: node.states()["standardized"] == 2, 60)


def test_kill_and_restart(start_process, archive, series):
    """kill -9 while series are under way: after a restart each is in the archive once, with the bytes of an undisturbed run."""
    node = start_process(f"--send_to={archive.destination}")
    for number in range(1, 5):
        assert send(series(number), node.port) == []
    assert until(lambda: len(archive.received) > 0, 60)
    node.end(signal.SIGKILL)
    node.start()
    assert until(lambda: len(archive.received) == 12 and done(node), 60)
    assert {len(contents) for contents in archive.contents.values()} == {1}
    assert sum(archive.received.values()) <= 13


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: chromium)")
def test_the_page_in_a_browser(start_node, series):
    """A browser shows the series and who was refused, runs nothing that a stranger sent, and loads nothing else."""
    node = start_node()
    assert send(series(1), node.port) == []
    assert associate(node.port, "<img src=x>").is_rejected
    assert until(lambda: node.states()["standardized"] == 1, 60)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"http://127.0.0.1:{node.http}/"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "<title>STAN_CT: STAN-CT node</title>" in shown
    assert '<td class="good">standardized</td>' in shown
    assert "<td>&lt;img src=x&gt;</td>" in shown
    assert "<img" not in shown
