"""One lock for building the schemas of all records, which happens at their first use.

pydantic before 2.14 builds a class twice if two threads use it first, and the second one takes away
what the first one is using.
"""

from __future__ import annotations

import os
from threading import RLock


class Building:
    lock = RLock()

    @classmethod
    def renew(cls) -> None:
        """In a forked child, replace the lock: the thread that held it is not there."""
        cls.lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Building.renew)
