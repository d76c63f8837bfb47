"""`python -m serving.status`."""

import sys

from serving.status import main

if __name__ == "__main__":
    sys.exit(main())
