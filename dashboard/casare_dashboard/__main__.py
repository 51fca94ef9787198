"""`python -m casare_dashboard`: serves the pages until it is told to stop."""

from __future__ import annotations

import sys

from casare_dashboard import serving

if __name__ == "__main__":
    sys.exit(serving.main())
