"""The short form of the proof; ``python -m tests.faults`` is the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from agentx_persistence import create_persistence
from tests.backends.backend import PROXIED, RAW, Backend
from tests.faults import raw_memory
from tests.faults.checker import FAULTS, check
from tests.faults.crew import Threads, share
from tests.faults.labs import Lab
from tests.faults.phases import Proof
from tests.faults.writers import SHARED

_SEED = 20261124


def _hold(proof: Proof) -> None:
    assert not proof.problems, "\n".join([f"seed {_SEED}", *proof.problems[:20]])
    assert proof.counts["acknowledged messages"] > 0


@pytest.mark.needs(RAW)
def test_writers_that_are_killed_lose_double_and_reorder_nothing(
    backend: Backend, tmp_path: Path
) -> None:
    proof = Proof(Lab(backend, ""), tmp_path, _SEED)
    proof.kills(4)
    proof.empty()
    _hold(proof)


@pytest.mark.needs(RAW)
def test_what_moves_away_from_owners_whose_deletion_is_killed_is_not_lost(
    backend: Backend, tmp_path: Path
) -> None:
    proof = Proof(Lab(backend, ""), tmp_path, _SEED)
    proof.moves(3, owned=20)
    proof.empty()
    assert not proof.problems, "\n".join([f"seed {_SEED}", *proof.problems[:20]])
    assert proof.counts["moves"] > 0


@pytest.mark.needs(PROXIED)
def test_connections_that_are_cut_before_and_after_the_server_acted_lose_and_double_nothing(
    backend: Backend, tmp_path: Path
) -> None:
    proof = Proof(Lab(backend, ""), tmp_path, _SEED)
    proof.cuts(2, chance=0.05)
    _hold(proof)


def test_threads_of_one_process_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    proof = Proof(Lab(Backend("memory", "agentx_persistence.memory"), ""), tmp_path, _SEED)
    proof.threads(0.5)
    _hold(proof)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_sees_what_it_is_there_for(fault: str, tmp_path: Path) -> None:
    with create_persistence() as persistence:
        share(persistence)
        threads = Threads(persistence, tmp_path, ("a", "b"), _SEED)
        threads.run(0.5)
        assert (
            check(persistence, raw_memory.read(persistence), threads.journals, SHARED).faults == 0
        )
        storage = cast(Any, persistence)._storage
        log = storage._logs[SHARED[0]]
        count, generation, updated_at = log.state
        raw = raw_memory.read(persistence)
        if fault == "lost":
            log.state = (count - 1, generation, updated_at)
        elif fault == "doubled":
            log.texts.append(log.texts[0])
            log.state = (count + 1, generation, updated_at)
        elif fault == "reordered":
            log.texts[0], log.texts[1] = log.texts[1], log.texts[0]
        elif fault == "gaps":
            raw.messages[SHARED[0]][0] = (0, raw.messages[SHARED[0]][0][1])
        elif fault == "traces":
            raw.messages["deleted long ago"] = [(1, "m")]
        elif fault == "torn":
            log.texts[0] = log.texts[0].replace('"content":"', '"content":"!')
        elif fault == "index":
            next(p for index, p in storage._indexes._lists.items() if index[2] == ("name",)).clear()
        else:
            with threads.journals[0].open("a") as journal:
                journal.write('{"end": "wrong", "result": "another answer", "seconds": 0}\n')
        verdict = check(persistence, raw, threads.journals, SHARED)
        assert verdict.counts[fault] > 0, verdict.problems
