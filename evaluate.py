"""The command `stan-ct evaluate` as a script of the checkout: `python evaluate.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
