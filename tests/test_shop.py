"""The example application: one database, two Alembic histories, joint transactions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    inspect,
    pool,
    text,
)

from agentx_persistence.__main__ import main
from agentx_persistence._sql import schema
from agentx_persistence.sql import METADATA, leave_tables_alone
from tests.servers.process import free_port

_EXAMPLES = Path(__file__).parents[1] / "examples"
_CHECKOUT = _EXAMPLES.parent
DATABASE = "agentx_shop"
THEIRS = {"users", "orders", "sessions", "messages"}
OURS = set(METADATA.tables)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shop.db'}"
        return
    server = request.getfixturevalue(f"{request.param}_server")
    server.recreate(DATABASE)
    address = schema.parse_url(server.url.set(database=DATABASE))
    yield address.render_as_string(hide_password=False)
    server.check_for_leaks(DATABASE)
    server.execute(f"DROP DATABASE {DATABASE}")


@pytest.fixture
def engine(url: str) -> Engine:
    return create_engine(url, poolclass=pool.NullPool)


@pytest.fixture
def theirs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The shop's Alembic, on a copy of its history."""
    monkeypatch.syspath_prepend(_EXAMPLES)
    shutil.copytree(_EXAMPLES / "shop" / "migrations", tmp_path / "migrations")
    config = Config(_EXAMPLES / "shop" / "alembic.ini")
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


@pytest.fixture
def ours(url: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """This package's Alembic."""
    monkeypatch.setenv("AGENTX_PERSISTENCE_URL", url)
    return Config(_CHECKOUT / "alembic.ini")


def _tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version", schema.VERSION_TABLE}


def _fill(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, name) VALUES ('u', 'Ada')"))
        connection.execute(text("INSERT INTO sessions (token, user_id) VALUES ('t', 'u')"))


def _generated(config: Config) -> str:
    """Return the body of the migration that `--autogenerate` writes."""
    made: Any = command.revision(config, autogenerate=True, rev_id="0002")
    written = Path(made.path).read_text()
    Path(made.path).unlink()
    return written.partition("def upgrade")[2]


@pytest.mark.parametrize("first", ["the application", "the package"])
def test_two_histories_share_a_database_in_either_order(
    theirs: Config, ours: Config, engine: Engine, first: str
) -> None:
    both = [theirs, ours] if first == "the application" else [ours, theirs]
    for config in both:
        command.upgrade(config, "head")
    assert _tables(engine) == THEIRS | OURS
    _fill(engine)
    for config in both:
        command.check(config)
    assert _generated(theirs).count("pass") == 2
    for config, left in ((both[0], both[1]), (both[1], both[0])):
        command.downgrade(config, "base")
        assert _tables(engine) == (OURS if config is theirs else THEIRS)
        command.check(left)
        command.upgrade(config, "head")
        command.check(left)
        assert _tables(engine) == THEIRS | OURS
    command.downgrade(ours, "base")
    command.downgrade(theirs, "base")
    assert _tables(engine) == set()


def test_a_new_table_of_the_application_is_all_that_autogenerate_adds(
    theirs: Config, ours: Config
) -> None:
    from shop.models import Base

    for config in (theirs, ours):
        command.upgrade(config, "head")
    reviews = Table("reviews", Base.metadata, Column("id", Integer, primary_key=True))
    try:
        generated = _generated(theirs)
    finally:
        Base.metadata.remove(reviews)
    assert "create_table('reviews'" in generated
    assert "agentx" not in generated


def test_tables_in_a_schema_of_their_own_are_left_alone_as_well(postgresql_server: Any) -> None:
    postgresql_server.recreate(DATABASE)
    address = schema.parse_url(postgresql_server.url.set(database=DATABASE))
    name = {"schema": "agents"}
    url = address.update_query_dict(name).render_as_string(hide_password=False)
    assert main(["upgrade", url]) == 0
    engine = create_engine(address, poolclass=pool.NullPool)
    with engine.connect() as connection:
        options = {"include_schemas": True, "include_name": leave_tables_alone}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, MetaData()) == []
    assert set(inspect(engine).get_table_names(schema="agents")) == {*OURS, schema.VERSION_TABLE}
    postgresql_server.execute(f"DROP DATABASE {DATABASE}")


@pytest.fixture
def client(theirs: Config, url: str) -> Iterator[Any]:
    """A client of the running application."""
    from shop.app import create_app

    command.upgrade(theirs, "head")
    assert main(["upgrade", url]) == 0
    app = create_app(url)
    with app.test_client() as client:
        client.post("/users", json={"id": "ada", "name": "Ada"})
        yield client
    app.extensions["persistence"].close()
    app.extensions["engine"].dispose()


def test_an_order_and_a_message_are_kept_or_undone_together(client: Any, engine: Engine) -> None:
    there = "/users/ada/conversations/c1"
    assert client.post(there, json={"text": "A lamp, please."}).get_json() == {"position": 1}

    def order(conversation: str, product: str) -> int:
        path = f"/users/ada/conversations/{conversation}/orders"
        status: int = client.post(path, json={"product": product}).status_code
        return status

    assert order("c1", "lamp") == 201
    assert order("c1", "unicorn") == 409
    assert client.get("/conversations/c1").get_json() == [
        {"role": "user", "text": "A lamp, please."},
        {"role": "assistant", "text": "I have ordered: lamp."},
    ]
    with engine.connect() as connection:
        assert connection.scalars(text("SELECT product FROM orders")).all() == ["lamp"]
    assert order("c2", "lamp") == 404
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM orders")) == 1


def test_a_listing_joins_the_users_with_the_conversations(client: Any) -> None:
    for conversation, number in (("c1", 1), ("c2", 2)):
        for _ in range(number):
            client.post(f"/users/ada/conversations/{conversation}", json={"text": "Hello!"})
    listed = client.get("/conversations").get_json()
    assert sorted(listed, key=lambda row: row["conversation"]) == [
        {"user": "Ada", "conversation": "c1", "messages": 1},
        {"user": "Ada", "conversation": "c2", "messages": 2},
    ]


def test_workers_forked_by_a_prefork_server_share_what_was_opened_before(
    theirs: Config, url: str, tmp_path: Path
) -> None:
    command.upgrade(theirs, "head")
    assert main(["upgrade", url]) == 0
    port = free_port()
    # The URL is in the environment, as in a deployment; --preload opens the store before the fork.
    server = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--threads", "4"]
    server += ["--bind", f"127.0.0.1:{port}", "--access-logfile", "-", "shop.app:create_app()"]
    environment = {**os.environ, "SHOP_URL": url, "PYTHONPATH": f"{_CHECKOUT}{os.pathsep}."}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(server, cwd=_EXAMPLES, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(port, running)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                client.post("/users", json={"id": "ada", "name": "Ada"}).raise_for_status()

                def say(number: int) -> int:
                    there = "/users/ada/conversations/c1"
                    answer = client.post(there, json={"text": str(number)}).raise_for_status()
                    position: int = answer.json()["position"]
                    return position

                with ThreadPoolExecutor(8) as pool:
                    positions = list(pool.map(say, range(80)))
                read = client.get("/conversations/c1").json()
        finally:
            running.terminate()
            running.wait(30)
    assert sorted(positions) == list(range(1, 81)), (tmp_path / "log").read_text()
    texts = [each["text"] for each in read]
    assert [texts[position - 1] for position in positions] == [str(n) for n in range(80)]


def _wait_for(port: int, running: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert running.poll() is None, "the server has ended"
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/conversations")
            return
        time.sleep(0.1)
    raise TimeoutError
