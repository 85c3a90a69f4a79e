"""What `stan-ct node` is told, and whether it can be done."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from stan_ct.errors import UsageError
from stan_ct.node.destinations import Destination, destination
from stan_ct.options import option

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Networks that may connect unless told otherwise."""
AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
"""An AE title (VR AE): 1 to 16 printable ASCII characters, no backslash, no space at either end."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class NodeSettings:
    """A node: who may send, what becomes of the series, and where they go.

    Attributes:
        spool_dir: Folder of the spool.
        calling: AE titles that may send.
        send_to: Destinations, see :func:`~stan_ct.node.destinations.destination`.
        ae_title: AE title of the node, which senders must call.
        host: Address that is listened at.
        port: Port of DICOM; 0: any that is free.
        peers: Addresses or networks that may connect; empty: this machine alone.
        tls_cert: Certificate of the node, PEM; empty: no TLS.
        tls_key: Its private key, PEM.
        tls_ca: Certificates of those who sign the certificates of senders and destinations, PEM.
        authorization_file: File with the value of the Authorization header for STOW-RS.
        quiet_time: Seconds without a new slice after which a series is complete.
        slices: Number of slices at which a series is complete at once; 0: as many as its headers say, if they do.
        model: Names or folders of models.
        target: Kernel of the standard protocol; empty for any.
        allow_out_of_protocol: Whether to go on with series that no model was made for.
        series_minutes: Longest time for one series, min.
        max_associations: Most associations at once.
        max_pdu: Longest PDU that is received, bytes.
        max_slice_mb: Largest slice that is received, 10^6 bytes.
        max_spool_gb: Most that the spool may hold, 10^9 bytes.
        min_free_gb: Least that must be free on its disk, 10^9 bytes.
        keep_hours: Hours for which slices are kept after all is done.
        forget_days: Days after which the spool forgets that it has done a series.
        http_host: Address of the status page.
        http_port: Port of the status page; 0: any that is free; -1: no page.
    """

    spool_dir: str = option(help="Folder of the spool; it is made if it is missing, and serves one node at a time.")
    calling: tuple[str, ...] = option(help="AE titles that may send, with commas between them.")
    send_to: tuple[str, ...] = option(
        (),
        help="Where derived series go: AET@HOST:PORT (C-STORE), tls://AET@HOST:PORT (C-STORE over TLS), or the https:// or "
        "http:// address of a STOW-RS service, without /studies.",
        repeated=True,
    )
    ae_title: str = option("STAN_CT", help="AE title of the node; calls to another one are rejected.")
    host: str = option("127.0.0.1", help="Address to listen at; the default is reached from this machine alone.")
    port: int = option(11112, help="Port of DICOM; 0: any that is free.", minimum=0, maximum=65535)
    peers: tuple[str, ...] = option(
        (), help="Addresses or networks (10.1.2.0/24) that may connect; without them, this machine alone."
    )
    tls_cert: str = option("", help="Certificate of the node, PEM; with it, senders must use TLS and have a certificate.")
    tls_key: str = option("", help="Private key of the certificate, PEM.")
    tls_ca: str = option("", help="Certificates that must have signed those of senders and of TLS destinations, PEM.")
    authorization_file: str = option("", help="File with the value of the Authorization header for STOW-RS; never logged.")
    quiet_time: float = option(
        30.0, help="Seconds without a new slice after which a series is complete.", minimum=0.1, maximum=86400
    )
    slices: int = option(
        0,
        help="Number of slices at which a series is complete at once; 0: as many as Number of Series Related Instances "
        "(0020,1209) says, where the slices say so.",
        minimum=0,
    )
    model: tuple[str, ...] = option(
        ("auto",), help="Names of models that ship, or folders; of several, the one made for a series standardizes it."
    )
    target: str = option("", help="Kernel of the standard protocol, to choose among models.")
    allow_out_of_protocol: bool = option(False, help="Go on with series that no model was made for, and mark them.")
    series_minutes: float = option(60.0, help="Longest time for one series, minutes.", minimum=0.01, maximum=1440)
    max_associations: int = option(32, help="Most associations at once; more are rejected for now.", minimum=1, maximum=200)
    max_pdu: int = option(131072, help="Longest PDU that is received, bytes.", minimum=4096, maximum=1048576)
    max_slice_mb: float = option(16.0, help="Largest slice that is received, MB.", minimum=0.01, maximum=1024)
    max_spool_gb: float = option(100.0, help="Most that the spool may hold, GB; then senders are told to wait.", minimum=0.001)
    min_free_gb: float = option(2.0, help="Least that must be free on the disk of the spool, GB.", minimum=0)
    keep_hours: float = option(
        72.0, help="Hours for which the images of a series stay in the spool after all is done.", minimum=0
    )
    forget_days: float = option(
        90.0, help="Days after which the spool forgets a series that is done, so that it would be done again.", minimum=0
    )
    http_host: str = option("127.0.0.1", help="Address of status page, /health and /metrics.")
    http_port: int = option(11180, help="Port of status page, /health and /metrics; -1: none.", minimum=-1, maximum=65535)

    @property
    def folder(self) -> Path:
        """Folder of the spool."""
        return Path(self.spool_dir)

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where derived series go."""
        return tuple(map(destination, dict.fromkeys(self.send_to)))

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks that may connect."""
        return tuple(map(_network, self.peers or LOOPBACK))

    def allows(self, address: str) -> bool:
        """Whether a peer with this address may connect."""
        peer = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.networks)


def check_settings(settings: NodeSettings) -> None:
    """Refuses settings that contradict each other, or that would let in who was not named.

    Raises:
        UsageError: For the first that does; the message says what to do.
    """
    for title in (settings.ae_title, *settings.calling):
        if not AE_TITLE.fullmatch(title):
            raise UsageError(f"{title!r} is no AE title: expected 1 to 16 printable ASCII characters, no backslash")
    if not settings.calling:
        raise UsageError("--calling names nobody: expected the AE titles that may send, such as --calling=PACS")
    for name in ("host", "http_host"):
        host = getattr(settings, name)
        if not _is_address(host):
            raise UsageError(f"--{name} expects an IP address, such as 127.0.0.1 or 0.0.0.0, not {host!r}")
    if not _is_loopback(settings.host) and not settings.peers:
        raise UsageError(
            f"--host={settings.host} can be reached from other machines: name those that may connect, such as "
            "--peers=10.1.2.3,10.1.4.0/24"
        )
    _ = settings.networks, settings.destinations  # raise if they are none
    _check_tls(settings)


def _check_tls(settings: NodeSettings) -> None:
    files = {name: getattr(settings, name) for name in ("tls_cert", "tls_key", "tls_ca", "authorization_file")}
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise UsageError("a certificate needs its private key: give both --tls_cert and --tls_key")
    if settings.tls_cert and not settings.tls_ca:
        raise UsageError("TLS needs --tls_ca, the certificates that must have signed those of senders")
    if any(each.tls and each.title for each in settings.destinations) and not settings.tls_cert:
        raise UsageError("a tls:// destination needs --tls_cert, --tls_key and --tls_ca")
    for name, path in files.items():
        if path and not Path(path).is_file():
            raise UsageError(f"--{name}: {path} is no file")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"--peers expects addresses or networks, such as 10.1.2.3 or 10.1.2.0/24, not {text!r}") from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return ipaddress.ip_address(text).is_loopback
