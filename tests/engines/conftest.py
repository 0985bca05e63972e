"""Tests of engines that take long to start: scripts/test-engines runs them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "AGENTX_TEST_ENGINES" in os.environ else ["test_*.py"]
