from __future__ import annotations

import json
import os
from dataclasses import asdict

import pytest

from tests.integrations.environments import (
    BACKEND,
    FRAMEWORKS,
    TRIES,
    EnvironmentFailedError,
    inner_pytest,
)
from tests.servers.process import not_installed

_OTHERS = ("redis", "mongodb", "postgresql", "mysql", "fs")
_IS_LONG = os.environ.get("AGENTX_TEST_INTEGRATIONS") == "all"
# The short form. LangChain and Strands are only in the long one: scripts/test-integrations.
_SHORT = [
    ("sqlite", "google_adk"),
    ("sqlite", "langgraph"),
    ("sqlite", "openai_agents"),
    ("postgresql", "openai_agents"),
    ("mysql", "pydantic_ai"),
]
_ALL = [(backend, name) for name in FRAMEWORKS for backend in ("sqlite", "memory", *_OTHERS)]
_CASES = _ALL if _IS_LONG else _SHORT


@pytest.mark.timeout(0)  # the inner tests have time limits, and the inner run as a whole has one
@pytest.mark.parametrize(("name", "framework"), _CASES)
def test_the_inner_suite_passes(name: str, framework: str, request: pytest.FixtureRequest) -> None:
    backend = request.getfixturevalue(f"{name}_backend")
    variables = {BACKEND: json.dumps(asdict(backend))}
    if _IS_LONG:
        variables[TRIES] = "200"
    try:
        ended = inner_pytest(framework, variables)
    except EnvironmentFailedError as error:
        not_installed(f"the environment of {framework} cannot be made: {error}")
    assert ended.returncode == 0, ended.stdout
