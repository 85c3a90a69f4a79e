"""The command `stan-ct reconstruct` as a script of the checkout: `python reconstruct.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reconstruct", *sys.argv[1:]]))
