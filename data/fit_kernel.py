"""The command `stan-ct fit-kernel` as a script of the checkout: `python data/fit_kernel.py --help`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["fit-kernel", *sys.argv[1:]]))
