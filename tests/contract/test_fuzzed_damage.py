"""Whatever lies where a record was, is given back as that record or said to be corrupt."""

from __future__ import annotations

import importlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentx_persistence import CorruptRecordError, Persistence, RecordConflictError, records
from agentx_persistence.records.messages import MESSAGES
from tests.backends.backend import Backend
from tests.contract.records import container, image, message, session

# The long form: AGENTX_TEST_FUZZ_EXAMPLES=2000 for each kind on each backend.
_EXAMPLES = int(os.environ.get("AGENTX_TEST_FUZZ_EXAMPLES", "12"))
_ADAPTERS: dict[str, Any] = {
    "container": records.CONTAINERS,
    "image": records.IMAGES,
    "session": records.SESSIONS,
    "message": MESSAGES,
}
_TEXT = 'né🙂\x00 "quoted" {}[]'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def damages(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return what may be found in place of a record's wire form."""
    fields: dict[str, Any] = json.loads(whole)
    places = st.integers(0, len(whole) - 1)
    names = st.sampled_from(sorted(fields))
    encodings = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]
    return st.one_of(
        st.binary(max_size=60),
        places.map(lambda end: whole[:end]),
        places.map(lambda start: whole[start:]),
        st.tuples(places, places).map(lambda cut: whole[: min(cut)] + whole[max(cut) :]),
        st.tuples(places, st.binary(min_size=1, max_size=4)).map(
            lambda hit: whole[: hit[0]] + hit[1] + whole[hit[0] + len(hit[1]) :]
        ),
        json_values.map(_dumped),
        st.tuples(names, json_values).map(lambda new: _dumped({**fields, new[0]: new[1]})),
        names.map(lambda gone: _dumped({k: v for k, v in fields.items() if k != gone})),
        st.sampled_from(["nan", "0x1", "1_0", "'a'", "01"]).map(
            lambda number: whole[:-1] + f',"extra":{number}}}'.encode()
        ),
        st.sampled_from(encodings).map(lambda name: whole.decode().encode(name)),
        st.just(whole.decode().encode("latin-1", errors="replace")),
        st.sampled_from([b"", b",", b"\n", b"\r\n", b"\x00"]).map(
            lambda between: between.join([whole] * 2)
        ),
        st.sampled_from(
            [b"", b" ", b"\x00" * len(whole), b"null", b"[]", b"{}", b'"', b"[" + whole + b"]"]
        ),
        st.integers(190, 400).map(lambda depth: b"[" * depth + b"]" * depth),
    )


def is_readable(kind: str, raw: bytes) -> bool:
    """Tell whether this is, after all, the wire form of one record of this kind."""
    try:
        found = _ADAPTERS[kind].validate_json(b"[" + raw + b"]")
    except ValueError:
        return False
    return len(found) == 1


class Damaged:
    """A store in which one record of each kind, `id`, is going to be damaged."""

    def __init__(self, backend: Backend, persistence: Persistence) -> None:
        self._backend, self._persistence = backend, persistence
        self._module = importlib.import_module(f"tests.backends.{backend.name}")
        # What is damaged has neighbours in each listing.
        for created_at, id in enumerate(("before", "id", "after")):
            persistence.containers.save(container(id, created_at=created_at, text=_TEXT))
            persistence.images.save(image(id, created_at=created_at, text=_TEXT))
            persistence.sessions.save(session(id, created_at=created_at, text=_TEXT))
        self.messages = [message(_TEXT, id=f"m{number}") for number in range(1, 4)]
        persistence.sessions.add_messages("id", self.messages)
        self.whole = {
            "container": persistence.containers.get("id"),
            "image": persistence.images.get("id"),
            "session": persistence.sessions.get("id"),
            "message": self.messages[1],
        }

    def raw_place(self, kind: str) -> tuple[str, str, int | None]:
        return ("sessions", "id", 2) if kind == "message" else (f"{kind}s", "id", None)

    def write(self, kind: str, raw: bytes) -> bool:
        written: bool = self._module.corrupt(
            self._backend, self._persistence, *self.raw_place(kind), raw
        )
        return written

    def look(self, kind: str) -> object:
        return self._module.stored(self._backend, self._persistence, *self.raw_place(kind))

    def restore(self, kind: str) -> None:
        assert self.write(kind, self.whole[kind].to_json().encode())
        self._persistence.sessions.truncate_after("id", "m3")

    def readings(self, kind: str) -> Iterable[Callable[[], Any]]:
        """Return the calls that come across what is damaged."""
        if kind == "message":
            sessions = self._persistence.sessions
            windows: list[dict[str, Any]] = [
                {},
                {"first": 2},
                {"last": 2},
                {"after": "m1"},
                {"before": "m3", "last": 1},
            ]
            yield from (lambda w=w: sessions.get_messages("id", **w) for w in windows)
            yield lambda: list(sessions.iter_messages("id"))
            return
        repository = getattr(self._persistence, f"{kind}s")
        yield lambda: repository.get("id")
        yield lambda: repository.find("id")
        yield lambda: repository.find_all()
        yield lambda: repository.find_all(limit=2)
        yield lambda: repository.find_page(size=2)
        if kind != "container":
            yield lambda: repository.find_all(container_id="box")
        if kind == "image":
            yield lambda: repository.find_all(name="plan")

    def go_on(self, kind: str) -> None:
        """Do what must not touch the damaged record itself."""
        persistence = self._persistence
        assert getattr(persistence, f"{kind}s" if kind != "message" else "sessions").exists("id")
        if kind == "image":
            with pytest.raises(CorruptRecordError):
                persistence.images.update_metadata("id", {"a": 1})
        persistence.images.save(image("another", container_id="id", created_at=-1))
        if kind in ("session", "message"):
            sessions = persistence.sessions
            fresh = message("fresh")
            assert sessions.add_message("id", fresh) == 4
            assert sessions.add_message("id", fresh) == 4
            if kind == "message":
                with pytest.raises((RecordConflictError, CorruptRecordError)):
                    sessions.add_message("id", self.messages[1])
            else:
                assert sessions.get_messages("id", last=1) == [fresh]
            assert sessions.truncate_after("id", "m3") == 1
            assert sessions.count_messages("id") == 3


@pytest.mark.parametrize("kind", list(_ADAPTERS))
def test_what_is_damaged_is_named_and_never_written_over(
    backend: Backend, persistence: Persistence, kind: str, report: Callable[[str], None]
) -> None:
    store = Damaged(backend, persistence)
    whole = store.whole[kind].to_json().encode()
    tried: Counter[str] = Counter()

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        print_blob=True,
    )
    @given(raw=damages(whole))
    def check(raw: bytes) -> None:
        try:
            attempt(raw)
        finally:
            store.restore(kind)

    def attempt(raw: bytes) -> None:
        if not store.write(kind, raw):
            tried["that the backend cannot hold"] += 1
        elif is_readable(kind, raw):
            tried["that were a record"] += 1
            for read in store.readings(kind):
                read()
        else:
            tried["that were corrupt"] += 1
            for read in store.readings(kind):
                with pytest.raises(CorruptRecordError) as raised:
                    read()
                assert raised.value.kind == kind
                assert raised.value.id == "id" or kind == "message"
                assert raised.value.where
            damaged = store.look(kind)
            store.go_on(kind)
            assert store.look(kind) == damaged

    check()
    for read in store.readings(kind):
        read()
    said = ", ".join(f"{count:,} {what}" for what, count in sorted(tried.items()))
    report(f"damage, {backend.name}, {kind}: {tried.total():,} texts, {said}")
