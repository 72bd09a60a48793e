"""`python -m hmdiff` is the command `hmdiff`."""

import sys

from .cli import main

sys.exit(main())
