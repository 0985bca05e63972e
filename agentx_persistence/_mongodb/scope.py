"""The scope in which the commands of a call run: each on its own, or all in a transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import bson
from pymongo import ReadPreference
from pymongo.client_session import ClientSession
from pymongo.errors import InvalidOperation, OperationFailure, PyMongoError

from agentx_persistence._mongodb.clients import Rows, TooLargeForTransactionError
from agentx_persistence._mongodb.database import (
    DURABLE,
    LATEST,
    MESSAGES,
    Database,
)
from agentx_persistence._mongodb.failures import is_passing, translated
from agentx_persistence.errors import (
    BackendUnavailableError,
    PersistenceClosedError,
    PersistenceError,
    RecordTooLargeError,
)
from agentx_persistence.storage import Kind
from agentx_persistence.storage._retrying import Retries

T = TypeVar("T")

# How often a transaction is tried if other writers get in its way.
_TRANSACTIONS = 3
_LONG_ATTEMPT = 0.05
_UTF8_BYTES = 4
# More than the size of a document without its text: ids, names, numbers and the names of fields.
_BESIDE_TEXT = 10_000


class Scope:
    """Gives every command its collection and, in a transaction, its session (`unit`)."""

    def __init__(self, database: Database, unit: ClientSession | None = None) -> None:
        self.database, self.unit = database, unit

    def rows(self, kind: Kind, *, latest: bool = False) -> Rows:
        """Return the collection.

        :param latest: read the primary's latest data, as writers must, even if a majority of the
            replica set does not have it yet
        """
        return self.database.rows(kind.name, latest)

    def messages(self, *, latest: bool = False) -> Rows:
        return self.database.rows(MESSAGES, latest)

    def run(self, work: Callable[[bool], T]) -> T:
        """Run `work`, and repeat it for a limited time while the server cannot be reached.

        :param work: its argument is True if an earlier attempt may have been applied
        """
        attempts = self._repeated if self.unit is None else self._once
        return self.database.clients.run(lambda: attempts(work))

    def _once(self, work: Callable[[bool], T]) -> T:
        """Run `work` in the caller's transaction, which can only be repeated as a whole."""
        self.database.check_open()
        return work(False)

    def _repeated(self, work: Callable[[bool], T]) -> T:
        deadline = time.monotonic() + self.database.patience
        retries = None
        again = False
        while True:
            self.database.check_open()
            try:
                return work(again)
            except PyMongoError as error:
                if not is_passing(error):
                    raise self._translated(error) from error
                retries = retries or Retries("mongodb", deadline)
                if self.database.closed or not retries.pause(error):
                    raise self._translated(error) from error
            again = True

    def transaction(self, work: Callable[[Scope], T]) -> T:
        """Run `work` in one transaction.

        :raises TooLargeForTransactionError: if the work has to be done in several steps instead
        """
        attempts = 0

        def attempt(_: bool) -> T:
            nonlocal attempts
            if attempts == _TRANSACTIONS:  # there are too many other writers
                raise TooLargeForTransactionError
            attempts += 1
            with (
                self.database.client.start_session() as unit,
                unit.start_transaction(LATEST, DURABLE, ReadPreference.PRIMARY),
            ):
                return work(Scope(self.database, unit))

        try:
            return self.run(attempt)
        except PersistenceError as error:
            # The server may refuse the transaction as too large or too slow. If it has another
            # reason, the separate steps fail for the same one.
            if not isinstance(error.__cause__, OperationFailure):
                raise
            raise TooLargeForTransactionError from error

    def attempts(self, what: str) -> Iterator[None]:
        """Yield once for each attempt to change `what` beside other writers, pausing in between.

        :raises BackendUnavailableError: if the attempts have taken too long
        """
        began = time.monotonic()
        deadline = began + self.database.contention
        pauses = 0
        while began < deadline:
            yield
            # The pauses are proportional to the time of an attempt on this connection.
            pauses = min(pauses + 1, 4)
            taken = min(_LONG_ATTEMPT, time.monotonic() - began)
            time.sleep(random.uniform(0, pauses * taken))
            began = time.monotonic()
        raise BackendUnavailableError(
            "mongodb", f"{self.database.name}: too many writers change {what}; try again later"
        )

    def check_size(self, noun: str, id: str, row: Mapping[str, Any]) -> None:
        """:raises RecordTooLargeError: if the server would refuse the document"""
        limit = self.database.max_size
        if _UTF8_BYTES * len(row["text"]) > limit - _BESIDE_TEXT:
            size = len(bson.encode(row))
            if size > limit:
                raise RecordTooLargeError(noun, id, size, limit)

    def _translated(self, error: PyMongoError) -> PersistenceError:
        if self.database.closed and (is_passing(error) or isinstance(error, InvalidOperation)):
            # Closing interrupted the connection; the server has not failed.
            return PersistenceClosedError()
        return translated(error, self.database.name)
