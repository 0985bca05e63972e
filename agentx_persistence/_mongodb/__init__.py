"""What the MongoDB backend is made of: the database it talks to, and the logs of messages."""

from __future__ import annotations
