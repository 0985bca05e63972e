"""``python -m agentx_persistence upgrade URL`` and ``… check URL``: the schema, without a checkout.

The exit status is 0 if the schema is current, 1 if it is not, 2 if the database did not answer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from agentx_persistence.errors import MissingDependencyError

try:
    from sqlalchemy import exc

    from agentx_persistence._sql import schema
except ModuleNotFoundError as error:
    raise MissingDependencyError("sqlite", "sqlalchemy") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m agentx_persistence")
    parser.add_argument("command", choices=["upgrade", "check"])
    parser.add_argument(
        "url",
        nargs="?",
        default=os.environ.get("AGENTX_PERSISTENCE_URL"),
        help="such as sqlite:///agentx.db, postgresql://… or mysql://…; "
        "by default the environment variable AGENTX_PERSISTENCE_URL",
    )
    asked = parser.parse_args(arguments)
    if not asked.url:
        parser.error("no URL: give one, or set AGENTX_PERSISTENCE_URL")
    try:
        url = schema.parse_url(asked.url)
        address, name = schema.split_schema(url)
        engine = schema.migrating_engine(address)
        revision = schema.revision(engine, name)
        if asked.command == "upgrade" and revision in (None, *schema.REVISIONS):
            schema.upgrade(engine, name)
            revision = schema.revision(engine, name)
        problem = schema.problem(revision, url)
    except (exc.SQLAlchemyError, ModuleNotFoundError) as error:
        print(f"error: {getattr(error, 'orig', None) or error}", file=sys.stderr)
        return 2
    print(problem or f"the schema is current: revision {schema.HEAD}")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
