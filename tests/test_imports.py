from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What an interpreter with nothing but pydantic may load for the package itself.
_PYDANTIC = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
_CLIENTS = {"alembic", "bson", "psycopg", "pymongo", "pymysql", "redis", "sqlalchemy"}

# A finder that hides packages, as if they were not installed.
_HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def _run(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _loads(module: str) -> set[str]:
    program = (
        "import sys; before = set(sys.modules)\n"
        f"import {module}\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    return {name.partition(".")[0] for name in json.loads(_run(program))}


def test_the_package_loads_pydantic_and_the_standard_library_only() -> None:
    foreign = _loads("agentx_persistence") - set(sys.stdlib_module_names)
    assert {name for name in foreign if not name.startswith("_")} <= {
        "agentx_persistence",
        *_PYDANTIC,
    }


@pytest.mark.parametrize(
    ("module", "clients"),
    [
        ("agentx_persistence", set()),
        ("agentx_persistence.memory", set()),
        ("agentx_persistence.storage", set()),
        ("agentx_persistence.fs", set()),
        ("agentx_persistence.sqlite", {"sqlalchemy"}),
        ("agentx_persistence.mysql", {"pymysql", "sqlalchemy"}),
        ("agentx_persistence.postgresql", {"psycopg", "sqlalchemy"}),
        ("agentx_persistence.redis", {"redis"}),
        ("agentx_persistence.mongodb", {"bson", "pymongo"}),
    ],
)
def test_a_driver_loads_only_its_own_client_library(module: str, clients: set[str]) -> None:
    assert _loads(module) & _CLIENTS == clients


@pytest.mark.parametrize(
    ("driver", "missing"),
    [
        ("sqlite", "sqlalchemy"),
        ("mysql", "pymysql"),
        ("mysql", "sqlalchemy"),
        ("postgresql", "psycopg"),
        ("postgresql", "sqlalchemy"),
        ("redis", "redis"),
        ("mongodb", "pymongo"),
    ],
)
def test_a_missing_library_names_the_extra(driver: str, missing: str) -> None:
    program = _HIDE.format(hidden={missing}) + (
        "from agentx_persistence import MissingDependencyError\n"
        "try:\n"
        f"    import agentx_persistence.{driver}\n"
        "except MissingDependencyError as error:\n"
        "    print(isinstance(error, ImportError), error)\n"
    )
    assert _run(program).strip() == (
        f"True {missing!r} is not installed: pip install 'agentx-persistence[{driver}]'"
    )


@pytest.mark.parametrize(
    ("module", "missing", "extra", "package"),
    [
        ("openai_agents", "agents", "openai-agents", "openai-agents"),
        ("langgraph", "langchain_core", "langgraph", "langgraph"),
        ("google_adk", "google", "google-adk", "google-adk"),
        ("strands", "strands", "strands", "strands-agents"),
        ("pydantic_ai", "pydantic_ai", "pydantic-ai", "pydantic-ai"),
    ],
)
def test_a_missing_framework_names_the_extra(
    module: str, missing: str, extra: str, package: str
) -> None:
    program = _HIDE.format(hidden={missing}) + (
        "from agentx_persistence import MissingDependencyError\n"
        "try:\n"
        f"    import agentx_persistence.integrations.{module}\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    assert _run(program).strip() == (
        f"{package!r} is not installed: pip install 'agentx-persistence[{extra}]'"
    )


def test_opening_a_current_file_imports_neither_alembic_nor_orm_nor_another_dialect(
    tmp_path: object,
) -> None:
    heavy = ["alembic", "sqlalchemy.orm", "sqlalchemy.dialects.mysql.base"]
    program = (
        "import sys\n"
        "from agentx_persistence import create_persistence\n"
        "from agentx_persistence.sqlite import sqlite_driver\n"
        f"create_persistence(sqlite_driver({str(tmp_path)!r} + '/a.db')).close()\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    assert _run(program).strip() == "['alembic', 'sqlalchemy.dialects.mysql.base']"
    assert _run(program).strip() == "[]"
