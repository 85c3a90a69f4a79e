"""Commands of `stan-ct`, run in this process, whose Python and libraries need not be started anew for every test."""

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

from stan_ct.cli.main import main


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command; its exit code, and what it wrote to standard output and standard error."""
    words, out, err = list(map(str, arguments)), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
