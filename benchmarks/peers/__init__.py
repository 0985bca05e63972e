"""How this package compares with others: see ``python -m benchmarks --help``.

Each module named after a framework has `PAIRS`: by the name in tables, the store on this package's
side, and the peer's. A store is opened with a URL and has `version`, `message(session)`, which
makes the next one, `fill(session, size)`, which makes a session with so many messages, and what is
measured: `append(session, message)` and `load(session)`, the last 50. It may have `turn(session,
message)`, all that the framework does with the store in a turn, and `list(owner)`, where it has
something to list, which `fill_list(count)` makes. Any of these may be asynchronous.
"""
