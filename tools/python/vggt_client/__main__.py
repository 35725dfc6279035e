"""`python -m vggt_client --server http://... ...`: the client over HTTP as a command."""

import sys

from .command import main

sys.exit(main())
