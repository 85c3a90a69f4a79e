"""The DICOM server: which connections are let in, and how much each may send before anybody reads it.

pynetdicom negotiates and decodes. Left to itself, it shakes hands over TLS in the thread that accepts connections, waits for
ever for a peer that stops in the middle of a PDU, and takes PDUs of up to 4 GiB and messages of any length. This server does
not.
"""

from __future__ import annotations

import ssl
from socket import socket
from socketserver import TCPServer
from threading import Lock
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from stan_ct.node.settings import NodeSettings
from stan_ct.node.tally import Tally

STALL_SECONDS = 30.0
"""Time in which a peer must send something, or take something, in the middle of a PDU; s."""
LONGEST_OTHER_PDU = 262144
"""Longest PDU that is no data, bytes: a request with 128 presentation contexts has some 100,000."""
MOST_WAITING = 2
"""Requests of one association that may wait for their answers; a sender that keeps to DICOM has one."""
SPARE = 8
"""Connections beyond the associations allowed that are let in, to be told that there are too many."""


class LimitedServer(ThreadedAssociationServer):
    """The server of a node.

    Args:
        settings: Peers and limits.
        tally: Where refusals are counted.
        tls: What senders must satisfy; None without TLS.
        arguments: As for :class:`~pynetdicom.transport.ThreadedAssociationServer`.
    """

    request_queue_size = 128

    def __init__(self, *arguments: Any, settings: NodeSettings, tally: Tally, tls: ssl.SSLContext | None, **named: Any) -> None:
        self.settings, self.tally, self._tls = settings, tally, tls
        self._open, self._counting = 0, Lock()
        super().__init__(*arguments, **named, request_handler=LimitedHandler)  # type: ignore[misc]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is let in."""
        address = str(client_address[0])
        if not self.settings.allows(address):
            self.tally.refuse("connection", address, "address not in --peers")
            return False
        most = self.settings.max_associations + SPARE
        with self._counting:
            handshakes = self._open
        if handshakes >= most or len(self.active_associations) >= most:
            self.tally.refuse("connection", address, "too many connections")
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shakes hands, in the thread of this connection, and hands the connection on."""
        with self._counting:
            self._open += 1
        try:
            connection: socket = request
            connection.settimeout(STALL_SECONDS)
            if self._tls is not None:
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except (OSError, ValueError) as error:
                    reason = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
                    self.tally.refuse("connection", str(client_address[0]), f"TLS: {str(reason).replace('_', ' ').lower()}")
                    self.shutdown_request(request)
                    return
            super().finish_request(connection, client_address)
        finally:
            with self._counting:
                self._open -= 1

    def shutdown_connections(self) -> None:
        """Takes no more connections, and ends those that are open."""
        TCPServer.shutdown(self)  # of pynetdicom's server it would leave a list that this one is not in
        for association in self.active_associations:
            association.abort()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Counts a connection that failed before it was one, instead of printing a traceback."""
        self.tally.refuse("connection", str(client_address[0]), "ended before it began")


class LimitedHandler(RequestHandler):
    """A connection whose reads are limited."""

    server: LimitedServer

    def _create_association(self) -> Association:
        association = super()._create_association()
        _limit(association, self.server.settings, self.server.tally)
        return association


def _limit(association: Association, settings: NodeSettings, tally: Tally) -> None:
    """Closes the connection instead of reading what is too long: a PDU, a message, or requests that do not wait for answers."""
    connection: Any = association.dul.socket
    receive, who = connection.recv, association.requestor.address
    longest, largest = max(settings.max_pdu, LONGEST_OTHER_PDU), int(1e6 * settings.max_slice_mb)

    def limited(number: int) -> bytearray:
        message: Any = association.dimse.message
        held = message.data_set.tell() + message.encoded_command_set.tell() if message is not None else 0
        too_long = "PDU longer than --max_pdu" if number > longest else ""
        too_long = too_long or ("slice larger than --max_slice_mb" if held + number > largest + longest else "")
        if association.dimse.msg_queue.qsize() >= MOST_WAITING:
            too_long = "requests do not wait for their answers"
        if too_long:
            tally.refuse("connection", str(who), too_long)
            raise OSError(too_long)
        return receive(number)

    connection.recv = limited
    _end_on_nonsense(association, tally)


def _end_on_nonsense(association: Association, tally: Tally) -> None:
    """Closes a connection whose messages cannot be decoded, or come out of turn, where pynetdicom's thread would raise."""
    provider: Any = association.dul
    act, who = provider.state_machine.do_action, association.requestor.address

    def checked(event: str) -> None:
        try:
            act(event)
        except Exception:  # pydicom and pynetdicom raise whatever they meet
            tally.refuse("connection", str(who), "message that cannot be decoded, or out of turn")
            association.is_established = False
            association._kill = provider._kill_thread = True
            if provider.socket is not None:
                provider.socket.close()

    provider.state_machine.do_action = checked
