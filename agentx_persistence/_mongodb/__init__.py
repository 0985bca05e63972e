"""The parts of the MongoDB backend. `log.py` states the rules for the logs of messages."""

from __future__ import annotations
