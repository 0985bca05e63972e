from __future__ import annotations

import os

from tests.integrations.environments import BACKEND

# Inner suites import a framework, which only their own environment has.
collect_ignore_glob = [] if BACKEND in os.environ else ["*/*"]
