"""What is no open transaction of the backend is refused. What is one: the tests of each driver."""

from __future__ import annotations

import pytest

from agentx_persistence import ConfigurationError, Persistence


@pytest.mark.parametrize("wrong", [None, object(), "transaction"], ids=["None", "object", "text"])
def test_what_is_no_transaction_is_refused(persistence: Persistence, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=r"transaction|orm\.Session") as raised:
        persistence.within(wrong)
    assert "Storage" not in str(raised.value)
