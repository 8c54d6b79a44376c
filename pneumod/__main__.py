"""`python -m pneumod`."""

import sys

from pneumod.cli import main

sys.exit(main())
