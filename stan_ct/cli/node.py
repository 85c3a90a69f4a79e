"""A PACS node: CT series come in by C-STORE, are standardized, and go back by C-STORE or STOW-RS.

stan-ct node SPOOL --calling=PACS --send_to=PACS@127.0.0.1:4242

A series is complete after a quiet time, or by count. It is standardized with the model that was made for it, as stan-ct
reconstruct does, and the derived series is sent to every --send_to until it is there. Who is not named may not send; from other
machines nobody can, unless --host and --peers say so. SPOOL holds what came and what is to be sent, and survives kill -9;
SPOOL/failures.csv names every series that was not standardized or not delivered, and why. SPOOL holds images of patients: keep
it where they may be. docs/PACS.md is the page for hospital IT. Research use only, not for diagnosis.

Exit codes: 0 stopped with SIGTERM or Ctrl-C; 1 bad usage, or the spool cannot be used.
"""

from __future__ import annotations

from stan_ct.cli.command import Command, fail
from stan_ct.cli.settings_flags import define_flags, settings_from_flags


def command() -> Command:
    """The command and its flags."""
    from stan_ct.node.settings import NodeSettings

    made = Command("node", __doc__ or "", ("spool_dir",))
    with made.group("Flags") as of:
        define_flags(NodeSettings, of)
    return made


def run(command: Command) -> int:
    """Runs the node, and returns the exit code."""
    from stan_ct.node.settings import NodeSettings

    settings = settings_from_flags(NodeSettings, command.values)
    try:
        from stan_ct.node.run import run_node
    except ModuleNotFoundError as error:
        return fail("node", f"{error.name} is not installed: pip install 'stan-ct[node]'")
    return run_node(settings, lambda line: print(line, flush=True))
