from __future__ import annotations

from collections.abc import Callable


def test_its_types_are_sound(mypy: Callable[[str], str]) -> None:
    assert mypy("__init__") == ""
