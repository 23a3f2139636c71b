"""`python -m chainfire`."""

from __future__ import annotations

from chainfire.cli.main import main

if __name__ == "__main__":
    main()
