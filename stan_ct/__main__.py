"""`python -m stan_ct`, the command `stan-ct`."""

import sys

from stan_ct.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
