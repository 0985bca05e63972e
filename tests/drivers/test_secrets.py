"""A password is in no `repr`, no log line, no warning and no error, whatever goes wrong.

Real servers here, with users that have one; `test_database_servers.py`, `test_redis_connections.py`
and `test_mongodb_connections.py` have addresses that are wrong or where nobody answers.
"""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy import URL, create_engine

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    PersistenceDriver,
    PersistenceError,
    RecordNotFoundError,
    SchemaError,
    create_persistence,
)
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from tests.backends.backend import DATABASE_SERVER, Backend
from tests.contract.calls import all_calls
from tests.servers.mongodb import MongodbServer
from tests.servers.mongodb import start_server as start_mongodb
from tests.servers.redis import RedisServer, redis_binary
from tests.servers.redis import start_server as start_redis

USER = "careful_one"
# As much as a URL, SQL and a shell would trip over; the tests quote it by hand in SQL.
SECRET = 'S3cr:t/w%41r@d"? #&+é€'
WRONG = "Wr0ng/" + SECRET


class Shown:
    """All that anybody could see of a driver and of what came of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog = caplog
        self._texts: list[str] = []

    def use(self, driver: PersistenceDriver) -> None:
        """Open the store, make every call, close it."""
        self._texts += [repr(driver), str(driver)]
        with create_persistence(driver) as persistence:
            self._texts += [repr(persistence), repr(vars(persistence))]
            for call in all_calls(persistence, "id"):
                call()
            with pytest.raises(RecordNotFoundError) as raised:
                persistence.images.get("absent")
            self.take(raised.value)

    def fail(
        self, driver: PersistenceDriver, kind: type[PersistenceError] = BackendUnavailableError
    ) -> None:
        self._texts += [repr(driver), str(driver)]
        with pytest.raises(kind) as raised:
            create_persistence(driver)
        self.take(raised.value)

    def take(self, error: BaseException) -> None:
        """Keep what a log or another process would show of the error and all behind it."""
        self._texts += [repr(error), str(error), *traceback.format_exception(error)]
        if isinstance(error, PersistenceError):
            self._texts.append(str(pickle.loads(pickle.dumps(error))))

    def check(self) -> None:
        text = "\n".join([*self._texts, self._caplog.text])
        for record in self._caplog.records:
            text += f"\n{record.getMessage()} {record.__dict__}"
        for secret in (SECRET, WRONG):
            for spelling in (secret, quote(secret, safe=""), quote_plus(secret)):
                assert spelling not in text
        assert "S3cr" not in text


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Iterator[Shown]:
    shown = Shown(caplog)
    yield shown
    shown.check()
    assert not [warning for warning in recwarn if "S3cr" in str(warning.message)]


@pytest.fixture
def database(backend: Backend, request: pytest.FixtureRequest) -> Iterator[URL]:
    """The address of a database for a user with a password, which the server checks."""
    server = request.getfixturevalue(f"{backend.name}_server")
    name = str(backend.options["database"])
    if backend.name == "postgresql":
        ((rules,),) = server.execute("SHOW hba_file")
        before = Path(rules).read_text()
        Path(rules).write_text(f"host all {USER} 127.0.0.1/32 scram-sha-256\n{before}")
        server.create_application(USER, SECRET, name)
        server.execute("SELECT pg_reload_conf()")
    else:
        server.create_application(USER, SECRET, name)
    yield URL.create(
        backend.module.rpartition(".")[2], USER, SECRET, "127.0.0.1", server.url.port, name
    )
    if backend.name == "postgresql":
        Path(rules).write_text(before)
        server.execute("SELECT pg_reload_conf()")


_DRIVERS: dict[str, Callable[..., PersistenceDriver]] = {
    "mysql": mysql_driver,
    "postgresql": postgresql_driver,
}


@pytest.mark.needs(DATABASE_SERVER)
def test_a_database_shows_no_password(database: URL, shown: Shown) -> None:
    kind = database.drivername
    driver = _DRIVERS[kind]
    full = database.render_as_string(hide_password=False)
    parts = {"host": database.host, "port": database.port, "database": database.database}
    shown.use(driver(full))
    shown.use(driver(database))
    shown.use(driver(**parts, user=USER, password=SECRET))
    bare = database.set(password=None, username=None)
    arguments = {"user": USER, "password": SECRET}
    shown.use(driver(bare, connect_args=arguments))
    shown.use(driver(bare.update_query_dict(arguments)))
    for wrong in (
        driver(database.set(password=WRONG)),
        driver(bare, connect_args={**arguments, "password": WRONG}),
        driver(bare.update_query_dict({**arguments, "password": WRONG})),
        driver(database.set(database="elsewhere")),
    ):
        shown.fail(wrong, ConfigurationError)
    shown.fail(driver(database.set(port=1)))


@pytest.mark.needs(DATABASE_SERVER)
def test_the_callers_own_engine_shows_no_password(database: URL, shown: Shown) -> None:
    mysql = database.drivername == "mysql"
    address = database.set(drivername="mysql+pymysql" if mysql else "postgresql+psycopg")
    for password in (SECRET, WRONG):
        # PyMySQL takes no other text than Latin-1, but bytes.
        own = password.encode() if mysql else password
        engine = create_engine(address, connect_args={"password": own})
        driver = _DRIVERS[database.drivername](engine=engine)
        try:
            if password is SECRET:
                shown.use(driver)
            else:
                shown.fail(driver, ConfigurationError)
        finally:
            engine.dispose()


@pytest.mark.needs(DATABASE_SERVER)
def test_the_command_that_a_missing_schema_names_has_no_password(
    database: URL, shown: Shown, backend: Backend, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(f"{backend.name}_server")
    server.recreate("unmigrated")
    if backend.name != "postgresql":
        server.execute(f"GRANT SELECT ON unmigrated.* TO {USER}")
    driver = _DRIVERS[database.drivername]
    empty = database.set(database="unmigrated")
    shown.fail(driver(empty), SchemaError)
    bare = empty.set(password=None, username=None)
    shown.fail(driver(bare.update_query_dict({"user": USER, "password": SECRET})), SchemaError)


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a password for everybody, and one for a user."""
    server = start_redis(tmp_path, redis_binary())
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", USER, "on", f">{SECRET}", "~*", "+@all", "-config", "-info"
        )
        client.config_set("requirepass", SECRET)
    yield server
    assert server.process is not None
    server.process.kill()


@pytest.mark.filterwarnings("ignore::agentx_persistence.redis.DataLossWarning")
def test_redis_shows_no_password(guarded_redis: RedisServer, shown: Shown) -> None:
    bare = guarded_redis.url
    for user in ("", USER):
        shown.use(redis_driver(bare.replace("//", f"//{user}:{quote(SECRET, safe='')}@")))
        wrong = bare.replace("//", f"//{user}:{quote(WRONG, safe='')}@")
        shown.fail(redis_driver(wrong), ConfigurationError)
    shown.use(redis_driver(bare, username=USER, password=SECRET))
    shown.fail(redis_driver(bare, username=USER, password=WRONG), ConfigurationError)
    shown.use(redis_driver(f"{bare}?password={quote_plus(SECRET)}"))
    shown.fail(redis_driver(f"{bare}?password={quote_plus(WRONG)}"), ConfigurationError)
    for password in (SECRET, WRONG):
        with guarded_redis.client(password=password) as client:
            driver = redis_driver(client=client)
            if password is SECRET:
                shown.use(driver)
            else:
                shown.fail(driver, ConfigurationError)
    shown.fail(redis_driver("redis://127.0.0.1:1", password=SECRET))
    shown.fail(redis_driver(bare, password=SECRET, cluster=True), BackendError)


@pytest.fixture
def guarded_mongodb(tmp_path: Path) -> Iterator[MongodbServer]:
    """A server that asks for a password."""
    server = start_mongodb(tmp_path, stand_alone=True)
    roles = ["root"]
    with server.connect() as client:
        client.admin.command("createUser", USER, pwd=SECRET, roles=roles)
    server.stop()
    server = start_mongodb(tmp_path, stand_alone=True, passwords=True)
    yield server
    server.stop()


def test_mongodb_shows_no_password(guarded_mongodb: MongodbServer, shown: Shown) -> None:
    bare = guarded_mongodb.url
    user = {"username": USER, "authSource": "admin"}
    for password, end in (
        (SECRET, shown.use),
        (WRONG, lambda driver: shown.fail(driver, ConfigurationError)),
    ):
        address = bare.replace("//", f"//{USER}:{quote(password, safe='')}@")
        end(mongodb_driver(f"{address}&authSource=admin"))
        end(mongodb_driver(bare, **user, password=password))
        with guarded_mongodb.connect(**user, password=password) as client:
            end(mongodb_driver(client=client))
    shown.fail(mongodb_driver("mongodb://127.0.0.1:1", **user, password=SECRET))
