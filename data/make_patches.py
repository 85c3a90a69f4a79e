"""The command `stan-ct make-patches` as a script of the checkout: `python data/make_patches.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["make-patches", *sys.argv[1:]]))
