"""The command `stan-ct train` as a script of the checkout: `python train.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
