"""`python -m fuseproof`: the same as the command `fuseproof`."""

import sys

from fuseproof.cli import main

sys.exit(main())
