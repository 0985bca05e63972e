"""Which peers there are, and what each needs."""

from __future__ import annotations

from benchmarks.peers.environments import Peer

_SQLITE = ("sqlite", "sqlite-tmpfs")
_SQL = (*_SQLITE, "postgresql", "mariadb")
_AGENTS = (
    "openai-agents[sqlalchemy]",
    "aiosqlite",
    "asyncpg",
    "aiomysql",
    "alembic",
    "psycopg[binary]",
    "pymysql",
)
_LANGCHAIN = (
    "langchain-community",
    "langchain-postgres",
    "sqlalchemy",
    "psycopg[binary]",
    "pymysql",
    "redis[hiredis]",
)

PEERS = (
    Peer(
        "agno",
        "agno",
        ("agno", "sqlalchemy[asyncio]", "psycopg[binary]", "pymysql", "redis[hiredis]"),
        "agno_worker.py",
        (*_SQL, "redis"),
    ),
    Peer(
        "openai-agents SQLiteSession",
        "openai_agents",
        _AGENTS,
        "openai_agents_worker.py",
        _SQLITE,
        "sqlite",
    ),
    Peer(
        "openai-agents SQLAlchemySession",
        "openai_agents",
        _AGENTS,
        "openai_agents_worker.py",
        _SQL,
        "sqlalchemy",
    ),
    Peer(
        "PersistentSession beside SQLiteSession",
        "openai_agents",
        _AGENTS,
        "openai_agents_worker.py",
        _SQLITE,
        "sqlite",
        "persistent",
    ),
    Peer(
        "PersistentSession beside SQLAlchemySession",
        "openai_agents",
        _AGENTS,
        "openai_agents_worker.py",
        _SQL,
        "sqlalchemy",
        "persistent",
    ),
    Peer(
        "langchain-community",
        "langchain",
        _LANGCHAIN,
        "langchain_worker.py",
        (*_SQL, "redis"),
        "community",
    ),
    Peer(
        "langchain-postgres",
        "langchain",
        _LANGCHAIN,
        "langchain_worker.py",
        ("postgresql",),
        "postgres",
    ),
    Peer(
        "google-adk",
        "adk",
        ("google-adk", "sqlalchemy[asyncio]", "aiosqlite", "asyncpg", "aiomysql"),
        "adk_worker.py",
        _SQL,
    ),
    Peer(
        "langgraph",
        "langgraph",
        (
            "langgraph",
            "langgraph-checkpoint-sqlite",
            "langgraph-checkpoint-postgres",
            "psycopg[binary]",
        ),
        "langgraph_worker.py",
        (*_SQLITE, "postgresql"),
    ),
)
