"""The tightest code that keeps the same promises, written by hand on each client library.

It gives the next position, refuses an unknown session, keeps message ids unique, and is as durable.
It checks nothing of what it is given, and retries nothing.
"""
