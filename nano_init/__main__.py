"""`python -m nano_init` is `nano-init`."""

from __future__ import annotations

import sys

from nano_init.cli.init import main

if __name__ == "__main__":
    sys.exit(main())
