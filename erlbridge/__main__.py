"""`python -m erlbridge`: the same as the `erlbridge` command."""

import sys

from erlbridge.tools.cli import main

sys.exit(main())
