"""The tightest code that keeps the same promises, written by hand on each client library.

It gives the next position, refuses an unknown session, keeps message ids unique, and is as durable.
A message that cannot be decoded is not removed. It checks nothing of what it is given, and retries
nothing.

Its classes have the methods that `benchmarks/operations.py` calls. A session is given as id,
container, image, time of creation and text; an image as id, container, name, time and text; a
message as id and text. Times are in Unix milliseconds, texts are JSON, and reading decodes them. In
memory and on the filesystem there are fewer methods.
"""
