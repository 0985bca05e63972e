from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.backend import Backend


@pytest.fixture
def server(backend: Backend, request: pytest.FixtureRequest) -> Any:
    """The server of the backend."""
    return request.getfixturevalue(f"{backend.name}_server")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a store on the filesystem, which is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def unheard_destructors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell nobody what interrupts of destructors raise: pytest's own hook for that can be
    interrupted as well."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
