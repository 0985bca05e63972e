"""Which peers there are, and what each needs."""

from __future__ import annotations

from benchmarks.peers.environments import Peer

_PACKAGES = {
    "adk": "google-adk sqlalchemy[asyncio] aiosqlite asyncpg aiomysql",
    "agno": "agno sqlalchemy[asyncio] psycopg[binary] pymysql redis[hiredis]",
    "langchain": "langchain-community langchain-postgres sqlalchemy psycopg[binary] pymysql"
    " redis[hiredis]",
    "langgraph": "langgraph langgraph-checkpoint-sqlite langgraph-checkpoint-postgres"
    " psycopg[binary] alembic sqlalchemy pydantic",
    "openai_agents": "openai-agents[sqlalchemy] aiosqlite asyncpg aiomysql alembic psycopg[binary]"
    " pymysql",
}
_SQLITE = ("sqlite", "sqlite-tmpfs")
_SQL = (*_SQLITE, "postgresql", "mariadb")


def _peer(
    name: str, environment: str, backends: tuple[str, ...], variant: str = "", ours: str = ""
) -> Peer:
    packages = tuple(_PACKAGES[environment].split())
    return Peer(name, environment, packages, f"{environment}_worker.py", backends, variant, ours)


PEERS = (
    _peer("agno", "agno", (*_SQL, "redis")),
    _peer("openai-agents SQLiteSession", "openai_agents", _SQLITE, "sqlite"),
    _peer("openai-agents SQLAlchemySession", "openai_agents", _SQL, "sqlalchemy"),
    _peer(
        "PersistentSession beside SQLiteSession", "openai_agents", _SQLITE, "sqlite", "persistent"
    ),
    _peer(
        "PersistentSession beside SQLAlchemySession",
        "openai_agents",
        _SQL,
        "sqlalchemy",
        "persistent",
    ),
    _peer("langchain-community", "langchain", (*_SQL, "redis"), "community"),
    _peer("langchain-postgres", "langchain", ("postgresql",), "postgres"),
    _peer("google-adk", "adk", _SQL),
    _peer("langgraph", "langgraph", (*_SQLITE, "postgresql"), "own"),
    _peer(
        "PersistentSaver beside langgraph's",
        "langgraph",
        (*_SQLITE, "postgresql"),
        "own",
        "persistent",
    ),
)
