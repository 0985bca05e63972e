"""From a URL to a driver. A driver's module is imported only when a URL has its scheme.

Other packages add schemes through the entry-point group `agentx_persistence.drivers`: the name is
the scheme, the value a callable ``(url, **options)`` that returns a `PersistenceDriver`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage import PersistenceDriver

_WHITE_SPACE = "is no URL: it has white space, such as the end of a line, at its start or end"
ENTRY_POINTS = "agentx_persistence.drivers"

# The module of each scheme, which has a function `driver_from_url(url, **options)`.
MODULES = {
    "memory": "memory",
    "file": "fs",
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "redis+sentinel": "redis",
    "mongodb": "mongodb",
    "mongodb+srv": "mongodb",
}
# SQLAlchemy's explicit forms name the client library, as in postgresql+psycopg://.
_WITH_LIBRARY = {"sqlite", "postgresql", "mysql", "mariadb"}


def driver_for(url: str, options: dict[str, Any]) -> PersistenceDriver:
    """Return the driver that the URL names; `options` are those of the driver's function.

    :raises ConfigurationError: if this is no URL, the scheme is unknown (the error lists those that
        are known), or an option is wrong
    :raises MissingDependencyError: if the driver's library is missing; the error names the extra
    """
    # The URL itself is not shown: it can hold a password.
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", url)
    if match is None or url != url.strip():
        reason = f"is no URL; for a SQLite file write sqlite:///{_example(url)}"
        if url != url.strip():
            reason = _WHITE_SPACE
        raise ConfigurationError("create_persistence", f"the target {reason}")
    scheme = match[1].lower()
    library = scheme.partition("+")[0]
    module = MODULES.get(scheme) or (library in _WITH_LIBRARY and MODULES[library])
    driver: Callable[..., PersistenceDriver]
    if module:
        driver = import_module(f"agentx_persistence.{module}").driver_from_url
    else:
        driver = _entry_point(scheme)
    try:
        return driver(url, **options)
    except TypeError as error:  # such as an option that the driver does not have
        raise ConfigurationError("create_persistence", f"an option is wrong: {error}") from error


def _entry_point(scheme: str) -> Callable[..., PersistenceDriver]:
    # Imported late: it takes a tenth of the time to import the package, and few need it.
    from importlib.metadata import entry_points

    others = entry_points(group=ENTRY_POINTS)
    for entry in others:
        if entry.name == scheme:
            driver: Callable[..., PersistenceDriver] = entry.load()
            return driver
    known = sorted({*MODULES, *others.names})
    reason = f"the scheme {scheme!r} is unknown; known are {', '.join(known)}"
    raise ConfigurationError("create_persistence", reason)


def _example(url: str) -> str:
    return url if re.fullmatch(r"[\w./\-]{1,80}", url) else "agentx.db"
