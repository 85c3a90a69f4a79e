"""The command `stan-ct adapt` as a script of the checkout: `python adapt.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["adapt", *sys.argv[1:]]))
