"""`examine` finds all of a seeded set of damages, and nothing on the same store before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentx_persistence import Persistence
from agentx_persistence.transfer import Finding, examine
from tests.backends.backend import RAW, Backend
from tests.backends.redis import connected
from tests.transfer.damages import TEXTS, Expected, damage_rest, damage_texts, fill_for_damage


def _check(persistence: Persistence, expected: Sequence[Expected]) -> None:
    """Each damage is named, with its place and what to do; and nothing else is."""
    found = list(examine(persistence))
    missed = [each for each in expected if not any(_says(one, each) for one in found)]
    invented = [one for one in found if not any(_says(one, each) for each in expected)]
    assert not missed, f"{missed}, among {found}"
    assert not invented
    assert all(one.where and one.advice for one in found)


def _says(finding: Finding, expected: Expected) -> bool:
    severity, what = expected
    return finding.severity == severity and finding.what.startswith(what)


@pytest.mark.needs(RAW)
def test_every_seeded_damage_is_found_and_nothing_else(backend: Backend) -> None:
    with backend.open() as persistence:
        fill_for_damage(persistence)
        assert list(examine(persistence)) == []
        damage_texts(backend, persistence)
    expected = [*TEXTS, *damage_rest(backend)]
    with backend.open() as persistence:
        _check(persistence, expected)


def test_a_user_of_redis_who_must_not_scan_gets_a_note(redis_backend: Backend) -> None:
    with redis_backend.open() as persistence:
        fill_for_damage(persistence)
    (url,) = redis_backend.arguments
    with connected(url) as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all", "-scan")
        try:
            limited = replace(redis_backend, arguments=(url.replace("//", "//clerk:secret@"),))
            with limited.open() as persistence:
                found = list(examine(persistence))
        finally:
            client.execute_command("ACL", "DELUSER", "clerk")
    assert {one.severity for one in found} == {"note"}
    assert len(found) == 4
    assert all("that no listing shows" in one.what and "scan" in one.where for one in found)


def test_damaged_texts_in_memory_are_found(memory_backend: Backend) -> None:
    with memory_backend.open() as persistence:
        fill_for_damage(persistence)
        assert list(examine(persistence)) == []
        damage_texts(memory_backend, persistence)
        _check(persistence, TEXTS)
