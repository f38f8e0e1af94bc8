"""`python -m rsfm` is the command `rsfm`."""

import os
import sys

from rsfm.cli import main
from rsfm.processes import world

if __name__ == "__main__":
    code = main()
    if world()[1] > 1:  # all is written, and threads of torch.distributed may abort a process that ends as usual
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
