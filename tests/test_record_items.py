"""Items: their namespaces, keys and values."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentx_persistence import InvalidRecordError, ItemRecord
from agentx_persistence.records import ITEMS, check_namespace
from tests.contract.hostile import CONTENTS, IDS, NOT_IDS


def item(value: Any = None, **fields: Any) -> ItemRecord:
    return ItemRecord(
        **{"namespace": ("user-42", "notes"), "key": "k", "value": value, **fields}  # type: ignore[arg-type]
    )


def test_the_wire_form_is_camel_case() -> None:
    assert item({"a": 1}, created_at=1, updated_at=2).to_json() == (
        '{"namespace":["user-42","notes"],"key":"k","value":{"a":1},"createdAt":1,"updatedAt":2}'
    )
    assert item(b"\xff\xfe\xfd", created_at=1, updated_at=2).to_json() == (
        '{"namespace":["user-42","notes"],"key":"k","value":"//79","valueType":"bytes",'
        '"createdAt":1,"updatedAt":2}'
    )


@pytest.mark.parametrize("name", CONTENTS)
def test_any_json_comes_back(name: str) -> None:
    record = item(CONTENTS[name])
    again = ItemRecord.model_validate_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()
    assert json.dumps(again.value) == json.dumps(CONTENTS[name])
    assert ITEMS.validate_json(f"[{record.to_json()}]") == [record]


@given(value=st.binary())
def test_bytes_come_back(value: bytes) -> None:
    record = item(value)
    again = ItemRecord.model_validate_json(record.to_json())
    assert again == record
    assert (again.value, again.value_type) == (value, "bytes")
    assert ITEMS.validate_json(f"[{record.to_json()}]")[0].value == value
    assert ItemRecord.model_validate(record.model_dump(mode="json")) == record
    for other in (bytearray(value), memoryview(value)):
        assert item(other).value == value


def test_a_text_that_looks_like_base64_stays_a_text() -> None:
    text = base64.b64encode(b"abc").decode()
    assert ItemRecord.model_validate_json(item(text).to_json()).value == text


def test_an_unknown_type_of_value_is_kept() -> None:
    text = item("abc").to_json().replace('"abc"', '"abc","valueType":"later"')
    assert ItemRecord.model_validate_json(text).to_json() == text


@pytest.mark.parametrize("value", ["a", "*", 5, None, ["YQ=="], "YQ==\n", "é"])
def test_what_is_no_base64_is_refused(value: Any) -> None:
    wire = {"namespace": ["n"], "key": "k", "value": value, "valueType": "bytes"}
    for read in (
        ItemRecord.model_validate,
        lambda w: ItemRecord.model_validate_json(json.dumps(w)),
    ):
        with pytest.raises(InvalidRecordError) as raised:
            read(wire)
        assert (raised.value.field, raised.value.reason) == (
            "value",
            "must be base64 text, because value_type is bytes",
        )


@pytest.mark.parametrize("value", [{1}, [b"a"], {"a": b"a"}, float("nan"), "\ud800", object()])
def test_what_is_neither_json_nor_bytes_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        item(value)
    assert raised.value.field == "value"


def test_a_copy_has_the_type_of_its_own_value() -> None:
    record = item(b"abc", tag=1)
    assert record.model_copy(update={"key": "other"}).value == b"abc"
    text = record.model_copy(update={"value": "abc"})
    assert '"valueType"' not in text.to_json()
    assert ItemRecord.model_validate_json(text.to_json()) == text
    for copy in (text.model_copy(update={"value": b"abc"}), record.model_copy()):
        assert ItemRecord.model_validate_json(copy.to_json()).value == b"abc"
        assert copy.model_extra == {"tag": 1}


def test_a_value_that_was_changed_inside_into_no_json_is_refused() -> None:
    record = item({})
    record.value["a"] = b"a"
    with pytest.raises(InvalidRecordError):
        record.to_json()


@pytest.mark.parametrize("id", IDS, ids=ascii)
def test_legal_elements_and_keys_stay_exact(id: str) -> None:
    record = item(key=id, namespace=(id,))
    again = ItemRecord.model_validate_json(record.to_json())
    assert (again.key, again.namespace) == (id, (id,))
    assert check_namespace([id, "b"]) == (id, "b")


@pytest.mark.parametrize(
    "namespace",
    [
        *[(id,) for id in NOT_IDS],
        ("a", ""),
        (),
        [],
        "a",
        b"a",
        None,
        {"a"},
        ("x" * 200, "y" * 199),
        ("x",) * 201,
    ],
    ids=ascii,
)
def test_what_is_no_namespace_is_refused(namespace: Any) -> None:
    for refused in (lambda: item(namespace=namespace), lambda: check_namespace(namespace)):
        with pytest.raises(InvalidRecordError) as raised:
            refused()
        assert (raised.value.kind, raised.value.field) == ("item", "namespace")
    if isinstance(namespace, tuple | list | str) and not any(
        isinstance(e, bytes) for e in namespace
    ):
        with pytest.raises(InvalidRecordError):
            ItemRecord.model_validate_json(
                json.dumps({"namespace": namespace, "key": "k", "value": 1})
            )


def test_a_namespace_may_have_400_characters() -> None:
    for namespace in [("x" * 199, "y" * 199), ("x",) * 200]:
        assert check_namespace(namespace) == namespace
        assert ItemRecord.model_validate_json(item(namespace=namespace).to_json())


@pytest.mark.parametrize("key", NOT_IDS, ids=ascii)
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidRecordError) as raised:
        item(key=key)
    assert raised.value.field == "key"
