"""Each scheme opens its backend; what is wrong with a URL is told without its password."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ConfigurationError,
    ContainerRecord,
    PersistenceError,
    create_persistence,
)
from agentx_persistence.schemes import driver_for
from tests.backends.backend import Backend
from tests.backends.urls import url_of


def _works(url: str, **options: Any) -> None:
    with create_persistence(url, **options) as persistence:
        persistence.containers.save(ContainerRecord(container_id="by-url"))
    with create_persistence(url, **options) as persistence:
        assert persistence.containers.exists("by-url")


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///{folder}/abs", "abs"),
        ("file://localhost/{folder}/local", "local"),
        ("file:relative/folder", "relative/folder"),
        ("file:///{folder}/with%20blank%3F", "with blank?"),
    ],
)
def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    _works(url.format(folder=str(tmp_path).lstrip(os.sep)))
    assert (tmp_path / folder).is_dir()


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite+pysqlite:///a.db", "sqlite:////{folder}/a.db"]
)
def test_a_sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    _works(url.format(folder=str(tmp_path).lstrip("/")), synchronous="NORMAL")
    assert (tmp_path / "a.db").is_file()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "memory:", "memory://"])
def test_a_store_in_memory(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with create_persistence(url) as persistence:
        assert persistence.containers.count() == 0
    assert not list(tmp_path.iterdir())


_SERVERS = {
    "mysql": ["mysql", "mysql+pymysql", "mariadb"],
    "mariadb": ["mariadb", "mysql"],
    "postgresql": ["postgresql", "postgres", "postgresql+psycopg"],
    "redis": ["redis", "valkey"],
    "redis_cluster": ["redis+cluster"],
    "mongodb": ["mongodb"],
}


@pytest.mark.parametrize(
    ("name", "scheme"), [(name, scheme) for name, all in _SERVERS.items() for scheme in all]
)
def test_a_server(request: pytest.FixtureRequest, name: str, scheme: str) -> None:
    backend: Backend = request.getfixturevalue(f"{name}_backend")
    url, options = url_of(backend, scheme)
    _works(url, **options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory:tiger", "write memory:"),
        ("file://host/folder", "write file:///folder"),
        ("file:///folder?tiger=1", "write file:///folder"),
        ("file:", "write file:///folder"),
        ("sqlite:a.db", "write sqlite:///file.db"),
        ("sqlite://host/a.db", "write sqlite:///file.db"),
        ("sqlite:///a.db?mode=ro", "write sqlite:///file.db"),
        ("postgresql://u:tiger@host:port/d", "."),
        ("mysql://u:tiger@host:port/d", "."),
        ("redis://:tiger@host:port/0", "."),
        ("redis+sentinel://:tiger@host", "redis[+]sentinel://host"),
        ("redis+sentinel://:tiger@host:1/service?ssl=true", "give options as arguments"),
        ("redis+sentinel://:ti?tiger@host:1/service", "redis[+]sentinel://host"),
        ("mongodb://u:tiger@", "."),
        ("mongodb://u:tiger@host:port/d", "."),
        ("postgresql+unknown://u:tiger@host/d", "."),
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_its_password(url: str, said: str) -> None:
    with pytest.raises(PersistenceError, match=said) as raised:
        create_persistence(url)
    shown: BaseException | None = raised.value
    while shown is not None:
        assert "tiger" not in f"{shown}"
        shown = None if shown.__suppress_context__ else shown.__cause__ or shown.__context__


def test_options_with_a_url_are_those_of_the_driver() -> None:
    driver = driver_for("redis+sentinel://host:26379,other:26379/service/2", {"base": "b"})
    assert "service/2" in repr(driver)
    assert "base='b'" in repr(driver)
    assert "d" in repr(driver_for("mongodb+srv://u:p@host/d%20x", {}))
    with pytest.raises(ConfigurationError):
        driver_for("memory:x", {})
