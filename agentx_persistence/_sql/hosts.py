"""Several hosts in one URL: ``postgresql://user@a:5432,b:5432/db`` and the other spellings.

`parse` puts them into the URL's query in the form of libpq: ``host=a,b`` and ``port=5432,5432``.
libpq tries the hosts in turn. MySQL's client libraries take a single host, so `prepare_connecting`
makes an engine try the hosts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ssl import SSLError
from typing import Any

from sqlalchemy import URL, Engine, event, exc, make_url

from agentx_persistence.errors import ConfigurationError, InvalidRecordError, PersistenceError

# Connects with a dialect's client library and its options.
Connect = Callable[[Any, dict[str, Any]], Any]

_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432, "postgres": 5432}
# Scheme and login as SQLAlchemy reads them, hosts with a comma between them, and the rest.
_SEVERAL = re.compile(
    r"([\w+]+://(?:[^:/@]*(?::[^@]*)?@)?+)([^/?@]*,[^/?@]*)((?:[/?].*)?)", re.DOTALL
)
# MySQL's codes for a wrong user or database. The next host would raise the same, and is not tried.
_SAME_EVERYWHERE = {1044, 1045, 1049, 1698}
_READ_ONLY = 1290


def parse(url: str | URL, backend: str) -> URL:
    """Return the URL with its scheme in lower case; several hosts and their ports are in its query,
    separated by commas.

    :param backend: the scheme to write, if what is given has none
    :raises InvalidRecordError: if it is no URL
    :raises ConfigurationError: if the URL of a SQLite file has more than a path
    """
    try:
        parsed = _parse(url)
    except (exc.ArgumentError, ValueError):
        parsed = None  # the error itself may quote the URL with its password
    if str(url).lower().startswith("sqlite") and (not parsed or parsed.host or parsed.query):
        raise ConfigurationError("sqlite", "write sqlite:///file.db, or sqlite:////folder/file.db")
    if parsed is None or _has_login_elsewhere(parsed):
        scheme = url.partition("://")[0] if isinstance(url, str) and "://" in url else backend
        reason = f"is no URL; write {scheme}://user:password@host/database"
        hint = "in the password write @ as %40 and / as %2F"
        raise InvalidRecordError("argument", "url", f"{reason}; {hint}")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise InvalidRecordError("argument", "port", "must be from 1 to 65535")
    return parsed


def _has_login_elsewhere(url: URL) -> bool:
    """Tell whether a part of user and password stands in the host, or in the database of a URL
    without a host. Errors would show it."""
    if url.host or url.drivername == "sqlite":
        return "@" in (url.host or "")
    return "@" in (url.database or "")


def _parse(url: str | URL) -> URL:
    """:raises ValueError: if a port is not a number, or the numbers of hosts and ports differ"""
    places: list[str] = []
    if isinstance(url, str) and (found := _SEVERAL.fullmatch(url)):
        places = found[2].split(",")
        if wrong := [each for each in places if each.count(":") > 1 and "[" not in each]:
            raise ValueError(f"{wrong[0]} has more than one port")
        url = found[1] + found[3]
    parsed = make_url(url)
    scheme = parsed.drivername.lower()
    # A file of SQLite is opened with Python's own library, whichever the URL names.
    parsed = parsed.set(drivername="sqlite" if scheme.startswith("sqlite+") else scheme)
    places = places or (parsed.host or "").split(",")
    if places == [""]:
        places = _listed(parsed, "host")
    if len(places) < 2:
        if len(_listed(parsed, "host")) > 1:
            raise ValueError("hosts are in two places")
        return parsed
    default = str(parsed.port or _PORTS.get(parsed.get_backend_name(), 0))
    ports = _listed(parsed, "port") or [default]
    ports = ports * len(places) if len(ports) == 1 else ports
    pairs = [_split(place) for place in places]
    own = [str(int(one or given)) for (_, one), given in zip(pairs, ports, strict=True)]
    query = {"host": ",".join(host for host, _ in pairs), "port": ",".join(own)}
    login = parsed.username, parsed.password
    return URL.create(
        parsed.drivername, *login, None, None, parsed.database, {**parsed.query, **query}
    )


def several(url: URL) -> list[tuple[str, str]]:
    """Return the hosts and ports of a URL with several hosts, otherwise an empty list."""
    hosts = _listed(url, "host")
    return list(zip(hosts, _listed(url, "port"), strict=True)) if len(hosts) > 1 else []


# Other errors of the system are not about an option.
_WRONG_FILE = (FileNotFoundError, IsADirectoryError, PermissionError, SSLError)
_WRONG_OPTION = (AttributeError, NotImplementedError, TypeError, ValueError, *_WRONG_FILE)


@contextmanager
def checked_options(backend: str) -> Iterator[None]:
    """Make a `ConfigurationError` of what libraries raise for an option that they do not know, or
    that has a wrong type or value, such as the path of a certificate that is not there."""
    try:
        yield
    except (*_WRONG_OPTION, exc.ArgumentError) as error:
        if isinstance(error, PersistenceError):
            raise
        such = "client_encoding" if backend == "postgresql" else "charset"
        said = f"an option of the connection, such as its {such}, is wrong: {error}"
        raise ConfigurationError(backend, said) from None


def prepare_connecting(engine: Engine) -> None:
    """Make an engine tell which option is wrong, and a MySQL engine try several hosts.

    With PyMySQL, also send passwords in UTF-8, and let the server's greeting take no longer than
    `connect_timeout`.
    """
    backend = engine.dialect.name.replace("mariadb", "mysql")
    own = engine.dialect.driver == "pymysql"
    connect = _connect_pymysql if own else lambda dialect, options: dialect.connect(**options)
    if backend == "mysql" and (places := several(engine.url)):
        connect = _in_turn(places, connect)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        with checked_options(backend):
            if backend != "mysql":
                return dialect.connect(*arguments, **options)
            return connect(dialect, options)


def _connect_pymysql(dialect: Any, options: dict[str, Any]) -> Any:
    # MySQL's own programs send passwords in UTF-8. PyMySQL would take Latin-1, and fail at other
    # characters with an error that holds the password.
    for name in ("password", "passwd"):
        if isinstance(password := options.get(name), str):
            options[name] = password.encode()
    # PyMySQL would wait for the server's greeting for as long as for the answer to a statement.
    connection = dialect.connect(**{**options, "defer_connect": True})
    answer_timeout = connection._read_timeout
    connection._read_timeout = connection.connect_timeout
    connection.connect()
    connection._read_timeout = answer_timeout
    return connection


def _in_turn(places: list[tuple[str, str]], connect: Connect) -> Connect:
    """Return a function that tries the hosts in turn until one accepts writes.

    It begins with the host that it connected to last, so that it waits only once for a host that is
    down.
    """

    def connect_in_turn(dialect: Any, options: dict[str, Any]) -> Any:
        nonlocal places
        failure: Exception | None = None
        for host, port in places:
            try:
                connection = connect(dialect, {**options, "host": host, "port": int(port)})
                if _takes_writes(connection):
                    others = [place for place in places if place != (host, port)]
                    places = [(host, port), *others]
                    return connection
                connection.close()
                reason = f"{host}:{port} is read-only, or has no quorum"
                failure = dialect.loaded_dbapi.OperationalError(_READ_ONLY, reason)
            except dialect.loaded_dbapi.Error as error:
                if error.args and error.args[0] in _SAME_EVERYWHERE:
                    raise
                failure = error
        assert failure
        raise failure

    return connect_in_turn


def _takes_writes(connection: Any) -> bool:
    cursor = connection.cursor()
    cursor.execute("SELECT @@global.read_only")
    (read_only,) = cursor.fetchone()
    # A Galera node without a quorum answers these statements and refuses all others.
    cursor.execute("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
    if ("wsrep_on", "ON") in cursor.fetchall():
        cursor.execute("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")
        read_only = read_only or ("wsrep_ready", "ON") not in cursor.fetchall()
    cursor.close()
    return not read_only


def _listed(url: URL, name: str) -> list[str]:
    value = url.query.get(name, ())
    return ",".join([value] if isinstance(value, str) else value).split(",") if value else []


def _split(place: str) -> tuple[str, str]:
    """Return host and port of `host`, `host:port`, `[::1]:port` or `::1`."""
    if found := re.fullmatch(r"\[(.*)\](?::(\d*))?", place):
        return found[1], found[2] or ""
    host, _, port = place.partition(":")
    return (place, "") if ":" in port else (host, port)
