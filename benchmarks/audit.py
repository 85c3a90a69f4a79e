"""Looks for known vulnerabilities of the packages that are installed.

python benchmarks/audit.py [--strict]

The versions in known_bad.txt are faults. pip-audit asks the database of Open Source Vulnerabilities (osv.dev) for those that
became known since, which are printed, and are faults with `--strict` alone: they would fail what has not changed. Where
pip-audit is not installed, or has no network, one line says so. Exit codes: 0 no fault, 1 some.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINNED = Path(__file__).with_name("known_bad.txt")
COMMAND = (sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--vulnerability-service=osv", "--format=json")
PATIENCE = 60.0
"""Seconds that pip-audit may take in all; a single request may take five."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints what was found, and returns the exit code."""
    installed = {str(canonicalize_name(d.metadata["Name"])): d.version for d in distributions() if d.metadata["Name"]}
    faults, asked = pinned_faults(read_known_bad(), installed), ask()
    if asked is None:
        print(f"audit: pip-audit cannot ask for vulnerabilities here; {len(installed)} packages compared with {PINNED.name}")
    for line in [*faults, *(asked or [])]:
        print(f"audit: {line}")
    return int(bool(faults or (asked and "--strict" in arguments)))


def ask() -> list[str] | None:
    """What pip-audit finds; None if it cannot ask."""
    try:
        done = subprocess.run(
            [*COMMAND, "--progress-spinner=off", "--timeout=5"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {', '.join(vulnerability['fix_versions'])}"
        for package in answer["dependencies"]
        for vulnerability in package.get("vulns", ())
        if vulnerability["fix_versions"]  # what has no better version cannot be mended here
    ]


def read_known_bad() -> list[tuple[Requirement, str]]:
    """Versions with a known vulnerability, and the advisory."""
    lines = [line.split() for line in PINNED.read_text().splitlines() if line and not line.startswith("#")]
    return [(Requirement(versions), advisory) for versions, advisory in lines]


def pinned_faults(known: list[tuple[Requirement, str]], installed: dict[str, str]) -> list[str]:
    """Packages, name -> version, that are among those with a known vulnerability."""
    faults = []
    for bad, advisory in known:
        version = installed.get(str(canonicalize_name(bad.name)))
        if version is not None and bad.specifier.contains(version, prereleases=True):
            faults.append(f"{bad.name} {version}: {advisory}, expected a version that is not {bad.specifier}")
    return faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
