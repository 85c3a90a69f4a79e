"""The process that standardizes: models are loaded once, and a codec that crashes takes nobody along."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection

from stan_ct.errors import StanCTError, UsageError
from stan_ct.node.jobs import Job, Result
from stan_ct.node.settings import NodeSettings
from stan_ct.parallel import end_with_parent

START_SECONDS = 300.0
"""Longest time in which a process must have its models."""


class Crashed(Exception):
    """The process ended over a series, or took too long; the message says how."""


class Worker:
    """The process; started for the first series, and anew after a crash.

    Args:
        settings: Models, and the longest time for a series.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Starts the process, unless it runs.

        Raises:
            UsageError: If there is no such model, or it is damaged.
            Crashed: If the process ended.
        """
        self._started()

    def standardize(self, job: Job) -> Result:
        """Standardizes a series.

        Raises:
            Crashed: If the process ended, or did not end in time and was killed.
            OSError: If nothing can be written, as on a full disk.
        """
        connection = self._started()
        try:
            connection.send(job)
            if not connection.poll(60 * self._settings.series_minutes):
                self.stop()
                raise Crashed(f"not done after {self._settings.series_minutes:g} minutes (--series_minutes)")
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise Crashed(self._ended()) from error
        if isinstance(answer, str):
            raise Crashed(answer)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _started(self) -> Connection:
        if self._process is not None and self._process.is_alive() and self._connection is not None:
            return self._connection
        self.stop()
        context = multiprocessing.get_context("spawn")  # not forked: the node has threads
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._settings), name="standardizer", daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_SECONDS):
            self.stop()
            raise Crashed(f"the models were not loaded after {START_SECONDS:g} s")
        try:
            refusal = self._connection.recv()
        except (EOFError, OSError) as error:
            raise Crashed(self._ended()) from error
        if refusal:
            self.stop()
            raise UsageError(refusal)
        return self._connection

    def _ended(self) -> str:
        if self._process is None:
            return "the process that standardizes was stopped"
        self._process.join(5)
        code = self._process.exitcode
        self.stop()
        how = f"signal {-code} ({signal.strsignal(-code)})" if code is not None and code < 0 else f"exit code {code}"
        return f"the process that standardizes ended with {how}"


def _serve(connection: Connection, settings: NodeSettings) -> None:
    """Takes jobs and answers with results, until the node ends."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the node's, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from stan_ct.node.standardizer import prepare, standardize

    try:
        models = prepare(settings)
    except StanCTError as error:
        connection.send(str(error))
        return
    connection.send("")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(standardize(job, models, settings.allow_out_of_protocol))
        except StanCTError as error:  # a directory that is still in use
            connection.send(f"{type(error).__name__}: {error}")
        except OSError as error:  # a disk that is full: not the series' fault
            connection.send(OSError(str(error)))
