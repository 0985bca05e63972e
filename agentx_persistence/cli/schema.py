"""``upgrade`` and ``check``, which need no more than the driver's own libraries."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from agentx_persistence.cli.places import require_existing, secret_free
from agentx_persistence.cli.streams import answered, to_its_end
from agentx_persistence.errors import MissingDependencyError, PersistenceError
from agentx_persistence.persistence import create_persistence
from agentx_persistence.schemes import MODULES

VARIABLE = "AGENTX_PERSISTENCE_URL"
_RELATIONAL = ("sqlite", "postgres", "mysql", "mariadb")
_OF_EXTRAS = ("alembic", "psycopg", "pymysql")
_NEEDS_EXTRA = "for the other commands, run: pip install 'agentx-persistence[cli]'"


def main(arguments: Sequence[str]) -> int:
    """Run ``upgrade`` or ``check``, for which the extra ``[cli]`` is not needed."""
    urls = [*arguments, os.environ.get(VARIABLE, "")]
    return answered(lambda: _status(arguments), _told, *urls)


def _status(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="agentx-persistence", epilog=_NEEDS_EXTRA)
    parser.add_argument("command", choices=["upgrade", "check"], help="; ".join(_HELP))
    parser.add_argument(
        "url",
        nargs="?",
        default=os.environ.get(VARIABLE),
        help="such as sqlite:///agentx.db, postgresql://… or mysql://…; "
        f"by default the environment variable {VARIABLE}",
    )
    try:
        asked = parser.parse_args(arguments)
        if not asked.url:
            parser.error(f"no URL: give one, or set {VARIABLE}")
        return to_its_end(upgrade if asked.command == "upgrade" else check)(asked.url)
    except PersistenceError as error:
        print(f"error: {secret_free(str(error), asked.url)}", file=sys.stderr)
        return 2
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except OSError as error:
        return _told(error)


def _told(error: OSError) -> int:
    print(f"error: {error.strerror or error}", file=sys.stderr)
    return 2


_HELP = ("upgrade: bring the schema up to date", "check: say whether the schema is current")


def upgrade(url: str) -> int:
    """Bring the tables of a database up to date, and say so."""
    return _schema(url, upgrading=True)


def check(url: str) -> int:
    """Say whether the store answers and its tables are current."""
    return _schema(url, upgrading=False)


def _schema(url: str, upgrading: bool) -> int:
    if not url.lower().startswith(_RELATIONAL):
        # These have no tables: what they need is made on opening.
        if not upgrading:
            require_existing(url)
        with create_persistence(url) as persistence:
            persistence.ping()
        print("the store answers; it has no schema to upgrade")
        return 0
    try:
        from sqlalchemy import exc

        from agentx_persistence._sql import schema
    except ModuleNotFoundError as error:
        raise MissingDependencyError("sqlite", "sqlalchemy") from error
    try:
        whole = schema.parse_url(url)
        address, name = schema.split_schema(whole)
        engine = schema.migrating_engine(address)
        revision = schema.revision(engine, name)
        if upgrading and revision in (None, *schema.REVISIONS):
            schema.upgrade(engine, name)
            revision = schema.revision(engine, name)
        problem = schema.problem(revision, whole)
    except (exc.SQLAlchemyError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _OF_EXTRAS:
            extra = MODULES[url.lower().partition(":")[0].partition("+")[0]]
            raise MissingDependencyError(extra, error.name) from error
        reason = str(getattr(error, "orig", None) or error)
        print(f"error: {secret_free(reason, url)}", file=sys.stderr)
        return 2
    print(problem or f"the schema is current: revision {schema.HEAD}")
    return 1 if problem else 0
