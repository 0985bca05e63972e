"""Where two records differ, as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_ABSENT = object()


def first_difference(one: Any, other: Any, place: str = "", ignored: str = "") -> str | None:
    """Return the place of the first difference, in dotted wire names, or ``None``.

    A null in a declared field equals an absent one; in open JSON it does not. There, values are
    compared as JSON: 1, 1.0 and true differ, and the order of keys does not matter.

    :param ignored: a field at the top that may differ
    """
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        return _record_difference(one, other, place, ignored)
    if type(one) is not type(other):
        return place
    if isinstance(one, dict):
        return _map_difference(one, other, place)
    if isinstance(one, list):
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            if found := first_difference(left, right, _join(place, str(index))):
                return found
        shorter = min(len(one), len(other))
        return None if len(one) == len(other) else _join(place, str(shorter))
    # -0.0 equals 0.0 in Python, but not as JSON.
    same = repr(one) == repr(other) if type(one) is float else one == other
    return None if same else place


def _record_difference(one: BaseModel, other: BaseModel, place: str, ignored: str) -> str | None:
    if type(one) is not type(other):
        return _class_difference(one, other, place)
    values = other.__dict__
    for name, field in type(one).__pydantic_fields__.items():
        if name == ignored:
            continue
        step = _join(place, field.alias or name)
        if found := first_difference(one.__dict__.get(name), values.get(name), step):
            return found
    return _map_difference(one.__pydantic_extra__ or {}, other.__pydantic_extra__ or {}, place)


def _class_difference(one: BaseModel, other: BaseModel, place: str) -> str:
    """Return the tag that differs; else the whole, whose values fit one class and not the other."""
    for tag in ("subtype", "type"):
        if getattr(one, tag, None) != getattr(other, tag, None):
            return _join(place, tag)
    return place or "record"


def _map_difference(one: dict[str, Any], other: dict[str, Any], place: str) -> str | None:
    for key in {**one, **other}:
        step = _join(place, key)
        if found := first_difference(one.get(key, _ABSENT), other.get(key, _ABSENT), step):
            return found
    return None


def _join(place: str, step: str) -> str:
    return f"{place}.{step}" if place else step
