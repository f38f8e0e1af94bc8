"""`python -m rsfm` is the command `rsfm`."""

import sys

from rsfm.cli import main

if __name__ == "__main__":
    sys.exit(main())
