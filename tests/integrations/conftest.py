from __future__ import annotations

import os
from pathlib import Path

from tests.integrations.environments import BACKEND

# Inner suites import a framework, which only their own environment has.
_FOLDERS = [file.parent.name for file in Path(__file__).parent.glob("*/__init__.py")]
collect_ignore = [] if BACKEND in os.environ else _FOLDERS
