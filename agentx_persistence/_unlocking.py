"""Tells an error of `RLock.release` from one that a signal handler raised right after it."""

from __future__ import annotations


def raise_unless_unlocked(error: RuntimeError) -> None:
    """Raise the error again, unless `release` raised it because this thread did not have the lock.

    CPython runs signal handlers right after the call of `release`. The traceback of what a handler
    raised there goes on to the handler's frame; that of `release`, which is C code, does not.
    """
    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
        raise error
