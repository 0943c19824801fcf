"""`python -m glowjax` is the command line."""

import sys

from glowjax.cli import main

sys.exit(main())
