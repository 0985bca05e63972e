"""Random operations on a backend, beside a plain model of what they should do."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.backends.backend import Backend
from tests.model.anchors import Anchors
from tests.model.items import Items
from tests.model.readers import Readers

# The long form: AGENTX_TEST_MODEL_STEPS=100000, in runs of 100, or what can be done in so many
# seconds: AGENTX_TEST_MODEL_SECONDS=600.
_STEPS = int(os.environ.get("AGENTX_TEST_MODEL_STEPS", "300"))
_SECONDS = float(os.environ.get("AGENTX_TEST_MODEL_SECONDS", "inf"))
_STEPS_OF_A_RUN, _PAUSE = (30, 0.02) if _STEPS < 10_000 else (100, 0.2)


@pytest.mark.timeout(300 if _STEPS < 10_000 else 0)
def test_random_operations_do_what_a_plain_model_does_and_readers_see_nothing_wrong(
    backend: Backend, report: Callable[[str], None]
) -> None:
    steps: Counter[str] = Counter()
    walks: Counter[str] = Counter()
    anchors = Anchors()
    deadline = time.monotonic() + _SECONDS
    with backend.open() as persistence:
        anchors.save(persistence)
        shared = {"persistence": persistence, "anchors": anchors, "steps": steps, "walked": walks}
        machine = type(f"ModelOn{backend.name}", (Items,), shared)
        with Readers(persistence, anchors, random.getrandbits(32), _PAUSE) as readers:
            while steps.total() < _STEPS and not readers.wrong and time.monotonic() < deadline:
                missing = (_STEPS - steps.total()) // _STEPS_OF_A_RUN + 1
                run_state_machine_as_test(
                    machine,
                    settings=settings(
                        max_examples=min(missing, 20),
                        stateful_step_count=_STEPS_OF_A_RUN,
                        deadline=None,
                        suppress_health_check=list(HealthCheck),
                        database=None,
                        print_blob=True,
                    ),
                )
            readers.wait_for(10)
    report(
        f"model, {backend.name}: {steps.total():,} steps, {walks.total():,} walks through pages "
        f"to the end, {readers.reads.total():,} readings beside them "
        f"({', '.join(f'{name} {count:,}' for name, count in sorted(readers.reads.items()))})"
    )
