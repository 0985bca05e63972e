"""``python -m agentx_persistence`` is the command ``agentx-persistence``."""

from __future__ import annotations

import sys

from agentx_persistence.cli import main

if __name__ == "__main__":
    sys.exit(main())
