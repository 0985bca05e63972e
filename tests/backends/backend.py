from __future__ import annotations

import importlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from agentx_persistence import Persistence, PersistenceDriver, create_persistence

# What a backend may lack. A test that needs one of these says so: @pytest.mark.needs(SHARED).
BOUNDED = "bounded"  # every call ends in time while all servers are silent
DATABASE_SERVER = "database server"  # an SQL server that tests end connections of
POOLED = "pooled"  # has a pool of connections whose size can be told
PROXIED = "proxied"  # a server whose connections tests cut
RAW = "raw"  # tests know how it lies: tests/faults/raw_*.py
SHARED = "shared"  # what one opening writes, another one sees, in other processes, too


@dataclass(frozen=True)
class Pool:
    """Options that limit a pool to five connections, and how many the process then has."""

    options: dict[str, Any]
    connections: int = 5


@dataclass(frozen=True)
class Backend:
    """An empty store for one test. It can be sent to another process, to be opened there."""

    name: str
    module: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def driver(self) -> PersistenceDriver:
        module = importlib.import_module(self.module)
        driver: PersistenceDriver = getattr(module, f"{self.module.rpartition('.')[2]}_driver")(
            *self.arguments, **self.options
        )
        return driver

    def open(self) -> Persistence:
        return create_persistence(self.driver())


@dataclass(frozen=True)
class Spread(Backend):
    """A store on several nodes. Each opening uses any of `urls`.

    :param options: how a test reaches the node that has everything
    :param opening: the options beside a URL
    """

    urls: tuple[str, ...] = ()
    opening: dict[str, Any] = field(default_factory=dict)

    def driver(self) -> PersistenceDriver:
        module = importlib.import_module(self.module)
        driver: PersistenceDriver = module.driver_from_url(
            secrets.choice(self.urls), **self.opening
        )
        return driver
