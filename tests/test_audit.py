"""The audit of dependencies: it finds what is known to be bad, never fails for want of a network, and ours are not bad."""

import json
import re
import subprocess
from pathlib import Path

import audit
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def test_known_bad_versions_are_found_and_later_ones_are_not():
    """By the limits of the list, whatever the name's spelling."""
    known = audit.read_known_bad()
    assert len(known) > 20
    assert audit.pinned_faults(known, {"jinja2": "3.1.5", "pillow": "10.3.0", "fonttools": "4.60.1"}) == [
        "fonttools 4.60.1: CVE-2025-66034, expected a version that is not <4.60.2,>=4.33.0",
        "jinja2 3.1.5: CVE-2025-27516, expected a version that is not <3.1.6",
    ]
    assert audit.pinned_faults(known, {"jinja2": "3.1.6", "fonttools": "4.32", "unknown": "0"}) == []


def test_without_a_network_the_list_is_asked(monkeypatch, capsys):
    """pip-audit that fails, hangs or is missing costs one line, and exit code 0 where nothing is bad."""
    for failure in (OSError(), subprocess.TimeoutExpired("pip-audit", 60)):
        monkeypatch.setattr(audit.subprocess, "run", lambda *a, failure=failure, **k: (_ for _ in ()).throw(failure))
        assert audit.main() == 0
        assert capsys.readouterr().out.count("\n") == 1
    done = subprocess.CompletedProcess([], 1, stdout="", stderr="ConnectionError")
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: done)
    assert audit.main() == 0
    assert "compared with known_bad.txt" in capsys.readouterr().out


def test_what_pip_audit_finds_is_printed(monkeypatch, capsys):
    """A vulnerability with a better version is named, and a fault if asked for; one without is none that could be mended."""
    vulnerabilities = [{"id": "CVE-1", "fix_versions": ["2"]}, {"id": "CVE-2", "fix_versions": []}]
    answer = {"dependencies": [{"name": "p", "version": "1", "vulns": vulnerabilities}, {"name": "q", "skip_reason": "x"}]}
    done = subprocess.CompletedProcess([], 1, stdout=json.dumps(answer))
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: done)
    for flags, code in (([], 0), (["--strict"], 1)):
        assert audit.main(flags) == code
        assert capsys.readouterr().out == "audit: p 1: CVE-1, fixed in 2\n"


def test_what_is_on_the_list_fails(monkeypatch, capsys):
    """Whatever pip-audit says."""
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps({"dependencies": []}))
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: done)
    assert audit.main() == 0
    monkeypatch.setattr(audit, "read_known_bad", lambda: [(Requirement("numpy>=2"), "CVE-3")])
    assert audit.main() == 1
    assert "CVE-3, expected a version that is not >=2" in capsys.readouterr().out


def test_no_requirement_of_ours_allows_a_bad_version():
    """The lowest version that setup.py accepts is not on the list."""
    wanted = [Requirement(text) for text in re.findall(r'"([a-zA-Z][\w-]*[>=]=[\d.,<]+)"', (ROOT / "setup.py").read_text())]
    lowest = {r.name.lower(): s.version for r in wanted for s in r.specifier if s.operator in (">=", "==")}
    assert len(lowest) > 25
    assert audit.pinned_faults(audit.read_known_bad(), lowest) == []


def test_security_md_names_files_and_tests_that_exist():
    """Each path and each test that it names is there."""
    text = (ROOT / "SECURITY.md").read_text()
    paths = set(re.findall(r"`((?:stan_ct|tests|benchmarks|docs)/[\w/.]+)`", text))
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", text))
    assert len(names) > 15
    assert [name for name in names if f"def {name}(" not in tests] == []
