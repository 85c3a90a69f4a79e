"""The status of a node over HTTP, read-only: a page for people, `/health` for whoever watches, `/metrics` for Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from stan_ct import __version__
from stan_ct.errors import UsageError
from stan_ct.node.overview import deliveries, series_lines, states
from stan_ct.node.settings import NodeSettings
from stan_ct.node.spool import Spool
from stan_ct.node.tally import Tally

REQUESTS, SECONDS = 16, 10
"""Requests that are answered at once, and how long one may take, s; more are refused."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Source:
    """What the status is made of.

    Attributes:
        settings: Settings of the node.
        spool: Its spool.
        tally: Its counts.
        associations: Number of associations that are open.
        troubles: What is wrong now; nothing if all is well.
    """

    settings: NodeSettings
    spool: Spool
    tally: Tally
    associations: Callable[[], int]
    troubles: Callable[[], list[str]]


def health(source: Source) -> tuple[int, str]:
    """HTTP status and JSON: 200 if the node works, 503 and what is wrong if not; destinations that are away are named."""
    troubles = source.troubles()
    waiting = {name: state for name, state in source.tally.states.items() if state}
    content = {"status": "failing" if troubles else "ok", "troubles": troubles, "destinations_away": waiting}
    return (503 if troubles else 200), json.dumps({**content, "version": __version__}, indent=1) + "\n"


def page(source: Source) -> str:
    """The page: what came, what was refused and why, what was sent. It names no patient."""
    refused = [
        (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(r.time)), r.what, r.who, r.reason) for r in source.tally.refused
    ]
    return (
        _environment()
        .get_template("status.html.j2")
        .render(
            version=__version__,
            title=source.settings.ae_title,
            troubles=source.troubles(),
            states=states(source.spool),
            lines=series_lines(source.spool),
            refused=refused,
            away=[(name, state) for name, state in source.tally.states.items() if state],
            now=time.strftime("%Y-%m-%d %H:%M:%S"),
        )
    )


def metrics(source: Source) -> bytes:
    """The numbers in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Numbers(source))
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """The metrics, as they are now."""
        source, prefix = self._source, "stan_ct_node_"
        yield GaugeMetricFamily(f"{prefix}up", "1 if the node works.", value=0 if source.troubles() else 1)
        series = GaugeMetricFamily(f"{prefix}series", "Series in the spool, by state.", labels=["state"])
        for state, number in states(source.spool).items():
            series.add_metric([state], number)
        yield series
        sent = GaugeMetricFamily(f"{prefix}deliveries", "Series by destination and state.", labels=["destination", "state"])
        for labels, number in deliveries(source.spool).items():
            sent.add_metric(labels, number)
        yield sent
        yield GaugeMetricFamily(f"{prefix}spool_bytes", "Bytes of the images in the spool.", value=source.spool.size())
        yield GaugeMetricFamily(f"{prefix}associations_open", "Associations that are open.", value=source.associations())
        yield from self._counters(prefix)

    def _counters(self, prefix: str) -> Iterable[Metric]:
        counters = {
            "associations": ("Associations accepted.", ""),
            "echoes": ("C-ECHO requests answered.", ""),
            "slices": ("Slices received: stored, or known already.", "result"),
            "bytes": ("Bytes of the slices received.", ""),
            "refused": ("Connections, associations and slices refused.", "reason"),
            "sent": ("Slices that arrived at a destination.", "destination"),
            "crashes": ("Ends of the process that standardizes.", ""),
            "seconds": ("Seconds spent on standardizing.", ""),
        }
        counts = self._source.tally.counts
        for name, (text, label) in counters.items():
            family = CounterMetricFamily(f"{prefix}{name}", text, labels=[label] if label else [])
            for (counted, value), number in counts.items():
                if counted == name:
                    family.add_metric([value] if label else [], number)
            if not label and (name, "") not in counts:
                family.add_metric([], 0)
            yield family


class StatusServer:
    """The HTTP server; GET and HEAD alone.

    Args:
        source: What the status is made of.
    Raises:
        UsageError: If the port cannot be had.
    """

    def __init__(self, source: Source) -> None:
        settings, answering = source.settings, BoundedSemaphore(REQUESTS)
        handler = type("Handler", (_Handler,), {"source": source, "answering": answering})
        try:
            self._server = ThreadingHTTPServer((settings.http_host, settings.http_port), handler)
        except OSError as error:
            where = f"{settings.http_host}:{settings.http_port}"
            raise UsageError(f"cannot serve the status at {where} ({error.strerror}): choose another --http_port") from error
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="status", daemon=True)

    @property
    def port(self) -> int:
        """Port that is listened at."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answers no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    source: Source
    answering: BoundedSemaphore
    timeout = SECONDS
    server_version, sys_version = "STAN-CT", ""

    def handle(self) -> None:
        """Answers, unless too many are being answered."""
        if not self.answering.acquire(blocking=False):
            return
        try:
            super().handle()
        except OSError:  # the peer went away
            pass
        finally:
            self.answering.release()

    def do_GET(self) -> None:  # the name that http.server asks for
        """Answers."""
        status, kind, content = self._answer()
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> tuple[int, str, bytes]:
        path, text = self.path.partition("?")[0], "text/plain; charset=utf-8"
        try:
            if path == "/":
                return 200, "text/html; charset=utf-8", page(self.source).encode()
            if path == "/health":
                status, content = health(self.source)
                return status, "application/json", content.encode()
            if path == "/metrics":
                return 200, CONTENT_TYPE_LATEST, metrics(self.source)
        except OSError as error:
            return 503, text, f"{error}\n".encode()
        return 404, text, b"expected /, /health or /metrics\n"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("stan_ct.node"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
