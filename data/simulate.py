"""The command `stan-ct simulate` as a script of the checkout: `python data/simulate.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["simulate", *sys.argv[1:]]))
