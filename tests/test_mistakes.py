"""What users do wrong: how it is called, the class of the error, and the words that they need.

The tables are in `tests/mistakes`.
"""

from __future__ import annotations

import re

import pytest

from tests.conftest import ASKED
from tests.mistakes.addresses import ADDRESSES
from tests.mistakes.calls import CALLS
from tests.mistakes.files import FILES, after_closing
from tests.mistakes.mistake import Mistake, in_a_store, in_an_empty_folder
from tests.mistakes.options import OPTIONS
from tests.mistakes.records import RECORDS
from tests.mistakes.servers import SERVERS
from tests.mistakes.targets import TARGETS

_OPENING = TARGETS | OPTIONS | ADDRESSES
_CALLS = CALLS | RECORDS

MISTAKES: dict[str, Mistake] = {
    **{name: Mistake(in_an_empty_folder, *row) for name, row in _OPENING.items()},
    **SERVERS,
    **FILES,
    # The backend comes first, so that one worker has all that needs its server.
    **{
        f"{backend}-{name}": Mistake(in_a_store(backend), *row)
        for backend in ASKED
        for name, row in _CALLS.items()
    },
    **{f"{backend}-a call after closing": after_closing(backend) for backend in ASKED},
}


def test_no_mistake_is_told_twice() -> None:
    """The name of one would hide the other."""
    told = [*TARGETS, *OPTIONS, *ADDRESSES, *SERVERS, *FILES]
    assert len(told) == len(set(told))
    assert len(_CALLS) == len(CALLS) + len(RECORDS)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_says_what_to_do(request: pytest.FixtureRequest, mistake: str) -> None:
    place, call, error, words = MISTAKES[mistake]
    with place(request) as arguments:
        with pytest.raises(error) as raised:
            call(*arguments)
        said = str(raised.value)
        assert type(raised.value) is error
        assert re.search(".*".join(map(re.escape, words.split(" … "))), said, re.DOTALL), said
        assert "tiger" not in said
