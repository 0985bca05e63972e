"""What a database's schema and settings say that `doctor` should report."""

from __future__ import annotations

from collections.abc import Iterator

from agentx_persistence.transfer import Finding

# The settings that decide whether a crash of the machine loses acknowledged data: how to ask for
# each, and what it should be.
_DURABLE = {
    "postgresql": {
        "fsync": ("SHOW fsync", "on"),
        "full_page_writes": ("SHOW full_page_writes", "on"),
        "synchronous_commit": ("SHOW synchronous_commit", "on"),
    },
    "mysql": {
        "innodb_flush_log_at_trx_commit": ("SELECT @@innodb_flush_log_at_trx_commit", "1"),
        "innodb_doublewrite": ("SELECT @@innodb_doublewrite", "1"),
    },
}
_SAFE = {"remote_apply", "remote_write", "ON", "DETECT_AND_RECOVER"}


def findings(url: str) -> Iterator[Finding]:
    """Yield what is wrong with the tables and the settings of an SQL database."""
    if not url.lower().startswith(("sqlite", "postgres", "mysql", "mariadb")):
        return
    from sqlalchemy import text

    from agentx_persistence._sql import schema

    address, name = schema.split_schema(schema.parse_url(url))
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        return
    engine = schema.migrating_engine(address)
    difference = schema.drift(engine, name)
    if difference:
        advice = "undo the changes; a migration of a newer version could fail on them"
        yield Finding("damage", "the tables are not as this version made them", difference, advice)
    family = address.get_backend_name().replace("mariadb", "mysql")
    with engine.connect() as connection:
        for setting, (question, safe) in _DURABLE.get(family, {}).items():
            found = str(connection.scalar(text(question)))
            if found != safe and found not in _SAFE:
                what = (
                    f"{setting} is {found}: a crash of the machine can lose what was acknowledged"
                )
                yield Finding("note", what, "the server's settings", f"set it to {safe}")
