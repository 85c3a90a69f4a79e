"""A node, from its settings to its end: threads that receive, standardize, send and tidy up, around one spool."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from threading import Event, Thread
from types import FrameType

from stan_ct.errors import UsageError
from stan_ct.node import deliveries
from stan_ct.node.courier import Courier
from stan_ct.node.destinations import Destination
from stan_ct.node.jobs import MOST_STARTS, crashed, finish, give_up, put_back
from stan_ct.node.log import close_log, log, log_fault, open_log
from stan_ct.node.overview import write_failures
from stan_ct.node.receive import Receiver, shortage
from stan_ct.node.security import client_context
from stan_ct.node.settings import NodeSettings, check_settings
from stan_ct.node.spool import Job, Spool
from stan_ct.node.status import Source, StatusServer
from stan_ct.node.tally import Tally
from stan_ct.node.worker import Crashed, Worker
from stan_ct.reconstruction.lock import locked

POLL = 0.2
"""Seconds between two looks for work."""
ROOM_PAUSE = 5.0
"""Seconds until a series is tried again whose output could not be written."""
TIDY = 60.0
"""Seconds between two looks for what may be removed."""


class Node:
    """A node that is ready to start.

    Args:
        settings: What it is told.
        worker: Who standardizes; by default a process of its own.
    Raises:
        UsageError: If the settings contradict each other, a port is taken, or there is no such model.
        OutputError: If the spool is damaged.
        OSError: If the spool cannot be written.
    """

    def __init__(self, settings: NodeSettings, worker: Worker | None = None) -> None:
        self.settings, self.tally = settings, Tally()
        self._stop, self._worker, self._next_tidy = Event(), worker or Worker(settings), 0.0
        if any(each.tls and each.title for each in settings.destinations):
            client_context(settings)  # raises now rather than when the first series is sent
        self.spool = Spool(settings.folder, settings.quiet_time, settings.slices)
        self._failures_behind = True
        self._under_way: Job | None = None
        self.receiver = Receiver(settings, self.spool, self.tally)
        source = Source(settings, self.spool, self.tally, lambda: self.receiver.associations, self.troubles)
        self.status = StatusServer(source) if settings.http_port >= 0 else None
        loops: dict[str, Callable[[], None]] = {"standardize": self._standardize, "tidy": self._tidy}
        loops |= {f"send to {each.name}": self._sending(each) for each in settings.destinations}
        self._threads = [Thread(target=self._repeat, args=(name, loop), name=name, daemon=True) for name, loop in loops.items()]

    def start(self) -> None:
        """Starts everything; slices are taken while the models are still being loaded.

        Raises:
            UsageError: If there is no such model, or it is damaged.
            Crashed: If the process that standardizes cannot be started.
        """
        self.receiver.start()
        self._worker.start()
        if lost := deliveries.cancel_others(self.spool, self.settings.destinations):
            log("deliveries cancelled: no such destination any more", deliveries=lost)
        deliveries.retry_refused(self.spool)
        for thread in self._threads:
            thread.start()
        if self.status is not None:
            self.status.start()
        log("started", title=self.settings.ae_title, port=self.receiver.port, page=self.status.port if self.status else None)

    def wait(self) -> None:
        """Waits until the node is told to stop."""
        while not self._stop.wait(1.0):
            pass

    def tell_to_stop(self) -> None:
        """Makes :meth:`wait` return; may be called by a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """Ends everything; what is not done is gone on with when a node is started on the spool again."""
        self._stop.set()
        self.receiver.stop()
        if self.status is not None:
            self.status.stop()
        self._worker.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10)
        self.spool.close()
        log("stopped")

    def troubles(self) -> list[str]:
        """What is wrong now, in words."""
        found = [f"the thread that is to {thread.name} has ended" for thread in self._threads if not thread.is_alive()]
        found += [] if self.receiver.is_listening else ["DICOM is not listened for"]
        lack = shortage(self.spool, self.settings)
        return [*found, *([lack] if lack else [])]

    def _repeat(self, name: str, loop: Callable[[], None]) -> None:
        """Repeats a step until the node stops; an error that nobody foresaw is logged, and the step tried again."""
        while not self._stop.is_set():
            try:
                loop()
            except Exception as error:
                if self._stop.is_set():
                    return
                log_fault(f"failed to {name}; trying again", error)
                self._stop.wait(5.0)
            self._stop.wait(POLL)

    def _standardize(self) -> None:
        if self._under_way is not None:  # how it ended could not be written
            put_back(self.spool, self._under_way)
            self._under_way = None
        job = self.spool.claim()
        if job is None:
            return
        self._under_way = job
        self._standardize_series(job)
        self._under_way = None

    def _standardize_series(self, job: Job) -> None:
        if job.starts > MOST_STARTS:
            self._given_up(job, f"started {job.starts} times without an end")
            return
        began = time.monotonic()
        try:
            result = self._worker.standardize(job)
        except Crashed as error:
            if self._stop.is_set():
                return
            self.tally.count("crashes")
            log("the process that standardizes ended", logging.WARNING, series=job.key[:8], found=str(error))
            if crashed(self.spool, job, str(error)):
                self._failures_behind = True
            self._stop.wait(2.0)
            return
        except OSError as error:
            log(
                "the output cannot be written; trying again",
                logging.WARNING,
                series=job.key[:8],
                found=error.strerror or str(error),
            )
            put_back(self.spool, job)
            self._stop.wait(ROOM_PAUSE)
            return
        self.tally.count("seconds", amount=time.monotonic() - began)
        if finish(self.spool, job, result, self.settings.destinations):
            log(result.status.replace("_", " "), series=job.key[:8], reason=result.reason, slices=len(result.outputs))
            self._failures_behind = self._failures_behind or bool(result.reason)

    def _given_up(self, job: Job, found: str) -> None:
        give_up(self.spool, job, found)
        log("failed", series=job.key[:8], reason="crashed", found=found)
        self._failures_behind = True

    def _sending(self, destination: Destination) -> Callable[[], None]:
        courier = Courier(destination, self.settings, self.spool, self.tally)

        def step() -> None:
            if courier.step():
                self._failures_behind = True

        return step

    def _tidy(self) -> None:
        if self._failures_behind:
            self._failures_behind = False
            try:
                write_failures(self.spool)
            except OSError:
                self._failures_behind = True
                raise
        now = time.monotonic()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY
            if gone := self.spool.expire(3600 * self.settings.keep_hours, 86400 * self.settings.forget_days):
                log("images removed", series=gone)


def run_node(settings: NodeSettings, say: Callable[[str], None] = print) -> int:
    """Runs a node until SIGTERM or Ctrl-C.

    Returns:
        Exit code: 0.
    Raises:
        UsageError: If it cannot start; the message says why and what to do.
        OutputError: If another node uses the spool, or it is damaged.
    """
    check_settings(settings)
    os.umask(0o077)  # images are nobody else's
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
        with locked(settings.folder, "spool_dir"):
            return _run(settings, say)
    except OSError as error:
        raise UsageError(f"the spool {settings.folder} cannot be used: {error}") from error


def _run(settings: NodeSettings, say: Callable[[str], None]) -> int:
    open_log(settings.folder)
    node = Node(settings)
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_signal(number: int, frame: FrameType | None) -> None:
        node.tell_to_stop()

    try:
        for number in former:
            signal.signal(number, on_signal)
        try:
            node.start()
        except Crashed as error:
            raise UsageError(f"models cannot be loaded: {error}") from error
        say(f"{settings.ae_title} listens at {settings.host}:{node.receiver.port}")
        if node.status is not None:
            say(f"status: http://{settings.http_host}:{node.status.port}/")
        node.wait()
    finally:
        node.stop()
        for number, handler in former.items():
            signal.signal(number, handler)
        close_log()
    return 0
