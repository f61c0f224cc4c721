"""``python -m rave_trio`` is ``rave-trio``."""

import sys

from rave_trio.cli import main

if __name__ == "__main__":
    sys.exit(main())
