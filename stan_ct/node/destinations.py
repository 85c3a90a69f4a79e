"""Where derived series go: an application entity (C-STORE), or a DICOMweb service (STOW-RS)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from stan_ct.errors import UsageError

FORMS = "AET@HOST:PORT, tls://AET@HOST:PORT, https://HOST/PATH or http://HOST/PATH"


@dataclass(frozen=True)
class Destination:
    """A destination.

    Attributes:
        name: As it was given.
        host: Host name or address.
        port: Port.
        title: AE title that is called; empty for STOW-RS.
        url: Address of the service, without `/studies`; empty for C-STORE.
        tls: Whether TLS is used.
    """

    name: str
    host: str
    port: int
    title: str = ""
    url: str = ""
    tls: bool = False


def destination(text: str) -> Destination:
    """The destination that a text names.

    Raises:
        UsageError: If it names none, or holds a password.

    Example:
        >>> destination("PACS@10.0.0.5:104").port
        104
    """
    try:
        parts = urlsplit(text if "://" in text else f"dicom://{text}")
        port = parts.port
    except ValueError:
        raise UsageError(f"--send_to expects {FORMS}, not {text!r}") from None
    if parts.password is not None:
        raise UsageError("--send_to holds a password, which would be seen: use --authorization_file")
    if parts.scheme in ("http", "https"):
        return _service(text, parts, port)
    if parts.scheme not in ("dicom", "tls") or not (parts.username and parts.hostname and port) or parts.path.strip("/"):
        raise UsageError(f"--send_to expects {FORMS}, not {text!r}")
    if len(parts.username) > 16:
        raise UsageError(f"--send_to: {parts.username!r} is no AE title: expected at most 16 characters")
    return Destination(text, parts.hostname, port, title=parts.username, tls=parts.scheme == "tls")


def _service(text: str, parts: SplitResult, port: int | None) -> Destination:
    if parts.username or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"--send_to expects {FORMS}, not {text!r}")
    secure = parts.scheme == "https"
    return Destination(text, parts.hostname, port or (443 if secure else 80), url=text.rstrip("/"), tls=secure)
