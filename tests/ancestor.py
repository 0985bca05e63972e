"""Data written by the TypeScript ancestor: what its own API answered for every record.

The data is not part of the repository. Tests that read it look in AGENTX_TEST_FIXTURES, else in
`shared/fixtures` beside the checkout, and skip where it is in neither.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_DEFAULT = Path(__file__).parents[2] / "shared" / "fixtures"
FILES = ("expected.json", "expected-head.json")


def ancestor_file(name: str) -> Path:
    path = Path(os.environ.get("AGENTX_TEST_FIXTURES", _DEFAULT)) / name
    if not path.exists():
        pytest.skip(f"the ancestor's data is not here: {path}")
    return path


def ancestor_data(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(ancestor_file(name).read_text("utf-8"))
    return data
