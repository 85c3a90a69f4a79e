"""Who is let in, and where series go, as the flags say it."""

from __future__ import annotations

import pytest

from stan_ct.errors import UsageError
from stan_ct.node.destinations import destination
from stan_ct.node.settings import NodeSettings, check_settings


def settings(**changed) -> NodeSettings:
    return NodeSettings(**{"spool_dir": "spool", "calling": ("PACS",), **changed})


def test_this_machine_alone_unless_told_otherwise():
    """Loopback is allowed, nothing else; with --peers, what they name."""
    assert [settings().allows(a) for a in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")] == [True] * 4
    assert [settings().allows(a) for a in ("10.0.0.1", "192.0.2.1", "fe80::1%eth0", "::ffff:10.0.0.1")] == [False] * 4
    named = settings(peers=("10.1.2.3", "10.2.0.0/16"))
    assert [named.allows(a) for a in ("10.1.2.3", "10.2.255.1")] == [True] * 2
    assert [named.allows(a) for a in ("10.1.2.4", "10.3.0.1", "127.0.0.1")] == [False] * 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines: name those that may connect"),
        ({"host": "example.org"}, "expects an IP address"),
        ({"calling": ()}, "names nobody"),
        ({"calling": ("A" * 17,)}, "is no AE title"),
        ({"ae_title": "A\\B"}, "is no AE title"),
        ({"peers": ("10.0.0.300",)}, "expects addresses or networks"),
        ({"tls_cert": "a.pem"}, "needs its private key"),
        ({"tls_cert": "a.pem", "tls_key": "b.pem"}, "TLS needs --tls_ca"),
        ({"send_to": ("tls://PACS@127.0.0.1:2762",)}, "needs --tls_cert"),
        ({"authorization_file": "/nowhere"}, "is no file"),
        ({"send_to": ("PACS@127.0.0.1",)}, "--send_to expects AET@HOST:PORT"),
        ({"send_to": ("ftp://x/y",)}, "--send_to expects"),
        ({"send_to": ("https://me:secret@pacs/dicom-web",)}, "holds a password"),
        ({"send_to": ("PACS@h:99999",)}, "--send_to expects"),
    ],
)
def test_contradictions_are_refused_with_advice(changed, words):
    """Before anything is opened."""
    with pytest.raises(UsageError, match=words) as caught:
        check_settings(settings(**changed))
    assert "secret" not in str(caught.value)


def test_settings_that_fit_are_accepted():
    """The other side of the refusals above."""
    check_settings(settings(calling=("A" * 16,), send_to=("PACS@127.0.0.1:104", "http://127.0.0.1/dicom-web")))
    check_settings(settings(host="0.0.0.0", peers=("10.1.0.0/16",)))


def test_destinations():
    """AE title, host and port; or the address of a service."""
    pacs = destination("PACS@10.0.0.5:104")
    assert (pacs.title, pacs.host, pacs.port, pacs.tls, pacs.url) == ("PACS", "10.0.0.5", 104, False, "")
    assert destination("tls://PACS@[::1]:2762").host == "::1"
    assert destination("tls://PACS@pacs.example:2762").tls
    stow = destination("https://pacs.example/dicom-web/")
    assert (stow.title, stow.port, stow.tls, stow.url) == ("", 443, True, "https://pacs.example/dicom-web")
