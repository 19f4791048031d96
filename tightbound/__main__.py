"""``python -m tightbound``: the command line."""

import sys

from tightbound.cli import main

sys.exit(main())
