"""The command ``agentx-persistence``. Its help, in `app`, lists the exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from agentx_persistence.cli import schema


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status. Without the extra ``[cli]`` there are only
    ``upgrade`` and ``check``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from agentx_persistence.cli.app import run
    except KeyboardInterrupt:
        return 130  # before anything was done
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        return schema.main(given)
    return run(given)
