"""Makes a model of your own scans without pairs: scans of your standard, scans of the others, of different patients.

stan-ct adapt --source_dir=SITE_A --target_dir=SITE_B --output_dir=MODEL
stan-ct reconstruct SITE_A OUT --model=MODEL

Fits, for each kernel in SITE_A, a filter that gives its scans the texture of the kernel in SITE_B. Doses may differ. The model
holds the protocols that it was made for, and refuses others; MODEL/report/report.html shows the filters with their intervals
and says how many more patients would make them surer. With one side alone it says what that side holds and what could be done.

With --minutes=30 a generator is trained on top: D compares its output with target patches of other patients, matched by tissue
and noise. It becomes part of the model if it wins on patients that did not train, else the filters stand alone; the report says
which. A run that was stopped goes on.

Exit codes: 0 done, 1 bad usage or scans that cannot be used, 130 stopped with Ctrl-C, 143 stopped with SIGTERM.
"""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from absl import flags

from stan_ct.cli.command import Command, fail, warn
from stan_ct.cli.settings_flags import define_flags, settings_from_flags
from stan_ct.errors import StanCTError
from stan_ct.parallel import usable_cores

if TYPE_CHECKING:
    from stan_ct.adaptation.settings import AdaptSettings


def command() -> Command:
    """The command and its flags."""
    from stan_ct.adaptation.settings import AdaptSettings

    made = Command("adapt", __doc__ or "", ("source_dir", "target_dir", "output_dir"))
    with made.group("Flags") as of:
        define_flags(AdaptSettings, of)
        flags.DEFINE_integer("workers", 0, "Processes; 0: one per core. The model does not depend on it.", 0, flag_values=of)
    return made


def run(command: Command) -> int:
    """Makes the model, and returns the exit code."""
    from stan_ct.adaptation.page import cautions, verdict, worth
    from stan_ct.adaptation.run import REPORT, adapt_with
    from stan_ct.adaptation.settings import AdaptSettings
    from stan_ct.allocation import keep_freed_memory
    from stan_ct.quiet import quiet_start
    from stan_ct.training.stopping import Stopped

    settings = settings_from_flags(AdaptSettings, command.values)
    if settings.minutes:
        keep_freed_memory()
        with quiet_start():
            import stan_ct.training.trainer  # noqa: F401 - TensorFlow, which talks while it loads
    try:
        if bool(settings.source_dir) != bool(settings.target_dir):
            return _one_side(settings)
        made = adapt_with(settings, command["workers"] or usable_cores(), command.command_line())
    except (StanCTError, OSError) as error:
        return fail("adapt", error)
    except BrokenProcessPool:
        return fail("adapt", "a worker was killed, for lack of memory perhaps: try fewer --workers")
    except (KeyboardInterrupt, Stopped) as stop:
        words = "run the same command to go on with training" if settings.minutes else "nothing was written"
        print(f"adapt: stopped; {words}", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    config = made.config
    print(f"{settings.output_dir}: model {config.name!r}, {config.source_kernel} -> {config.target_kernel}")
    for kernel, fitted in made.filters.items():
        print(f"  {verdict(kernel, config.target_kernel, fitted)}")
    if made.trial:
        print(f"  {worth(made.trial)}")
    for text in cautions(config, made.filters):
        warn("adapt", text)
    if made.left_out:
        warn("adapt", f"left out, since no slice could be measured: {'; '.join(made.left_out)}")
    print(f"  {settings.output_dir}/{REPORT}/report.html; use it with stan-ct reconstruct --model={settings.output_dir}")
    return 0


def _one_side(settings: AdaptSettings) -> int:
    """Says what the side that was given holds, and what could be done with it."""
    from stan_ct.adaptation.one_side import describe_side

    given, lacking = ("source_dir", "target_dir") if settings.source_dir else ("target_dir", "source_dir")
    for line in describe_side(given, settings.sides[given], settings.slices):
        print(line)
    return fail("adapt", f"a model needs scans of both sides: add --{lacking}")
