"""`python -m casare_cli` is `casare`."""

from __future__ import annotations

import sys

from casare_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
