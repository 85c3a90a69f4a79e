"""TLS on both sides: who calls must have a certificate, and who is called too."""

from __future__ import annotations

import ssl

from stan_ct.errors import UsageError
from stan_ct.node.settings import NodeSettings


def server_context(settings: NodeSettings) -> ssl.SSLContext | None:
    """What senders must satisfy: TLS 1.2 or later, and a certificate signed by one of `tls_ca`. None without TLS.

    Raises:
        UsageError: If a certificate or the key cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, settings) if settings.tls_cert else None


def client_context(settings: NodeSettings) -> ssl.SSLContext:
    """What destinations must satisfy: the same, and their name must be in the certificate."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, settings)


def _context(side: int, settings: NodeSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_password)
        context.load_verify_locations(settings.tls_ca)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UsageError(
            f"{settings.tls_cert}, {settings.tls_key} and {settings.tls_ca} are no certificate, its key without a password, "
            f"and certificates of signers, all PEM ({error})"
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
