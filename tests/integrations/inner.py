"""The plugin of the inner suites: an empty store for each test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence
from agentx_persistence.transfer._walking import ORDER, pages
from tests.backends.backend import Backend
from tests.integrations.environments import BACKEND, CHECKOUT, SOURCES, TRIES


@pytest.fixture(scope="session")
def given_backend() -> Backend:
    """The store of this run, empty or not."""
    return Backend(**json.loads(os.environ[BACKEND]))


@pytest.fixture
def backend(given_backend: Backend) -> Backend:
    """An empty store."""
    with given_backend.open() as persistence:
        storage: Any = vars(persistence)["_storage"]
        for kind in ORDER:
            for page in pages(storage, kind, None):
                for document in page:
                    storage.delete(kind, document.key)
    return given_backend


@pytest.fixture
def persistence(backend: Backend) -> Iterator[Persistence]:
    """The empty store, open."""
    with backend.open() as persistence:
        yield persistence


@pytest.fixture(scope="session")
def sources() -> Path:
    """The folder of the unpacked source distributions."""
    return Path(os.environ[SOURCES])


@pytest.fixture(scope="session")
def tries() -> int:
    """How often to repeat a race."""
    return int(os.environ.get(TRIES, "10"))


@pytest.fixture(scope="session")
def mypy(
    given_backend: Backend, tries: int, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Takes the framework's packages, with "," between them, and names of integrations' modules.

    Returns what mypy finds wrong in the modules. In the long form it reads all that they import; in
    the short one only those packages, pydantic and ours; what is imported from others is `Any`.
    """
    if given_backend.name != "sqlite":
        pytest.skip("types are checked once: on SQLite")
    folder = tmp_path_factory.mktemp("mypy")

    def check(packages: str, *modules: str) -> str:
        files = [f"agentx_persistence/integrations/{name}.py" for name in modules]
        read = ",".join(
            f"{name}.*" for name in f"agentx_persistence,pydantic,{packages}".split(",")
        )
        others = "silent" if tries >= 200 else "skip"
        config = folder / f"{others}.ini"
        config.write_text(
            f"[mypy]\nstrict = true\nfollow_imports = {others}\n"
            f"[mypy-{read}]\nfollow_imports = silent\n"
        )
        command = [sys.executable, "-m", "mypy", "--config-file", str(config)]
        command += ["--cache-dir", f"{sys.prefix}/mypy-{others}"]  # frameworks are large
        ended = subprocess.run(
            [*command, *files], capture_output=True, text=True, check=False, timeout=580
        )
        return "" if ended.returncode == 0 else ended.stdout + ended.stderr

    return check


@pytest.fixture
def run_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Takes the name of a page in docs/integrations; runs its code; returns what that printed."""

    def run(name: str) -> str:
        page = (CHECKOUT / "docs" / "integrations" / name).read_text("utf-8")
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(compile(block, name, "exec"), names)
        return capsys.readouterr().out

    return run
