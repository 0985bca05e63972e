"""The tests of the SDK that are not about what any session does, with the reasons."""

from __future__ import annotations

LEFT_OUT: dict[str, list[str]] = {}
