"""`list`, `show` and `stats`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    OtherMessage,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.cli.schema import VARIABLE
from agentx_persistence.transfer import export
from tests.cli.terminal import on_a_terminal

Run = Callable[..., Any]


def test_list_shows_a_conversation_with_its_last_message(run: Run, store: str) -> None:
    header, line = run("list", store).out.splitlines()
    assert header.split()[:2] == ["session", "container"]
    assert {"talk", "user", "4", "Yes."} <= set(line.split())


def test_list_gives_wire_forms_to_programs(run: Run, store: str) -> None:
    (session,) = run("list", store, "--json").json
    assert session["sessionId"] == "talk"
    (image,) = run("list", store, "--kind", "images", "--json").json
    assert image["model"] == "m-1"


def test_list_shows_the_items_of_a_container(run: Run, store: str) -> None:
    with create_persistence(store) as persistence:
        persistence.items.save(ItemRecord(namespace=("user", "state"), key="k", value=1))
    assert "user/state" in run("list", store, "--kind", "items", "-c", "user").out
    refused = run("list", store, "--kind", "items")
    assert refused.status == 2
    assert "--container" in refused.err


def test_list_refuses_containers_of_a_container(run: Run, store: str) -> None:
    refused = run("list", store, "--kind", "containers", "-c", "user")
    assert refused.status == 2
    assert "leave --container out" in refused.err


def test_show_folds_tools_and_tells_sizes(run: Run, store: str) -> None:
    shown = run("show", store, "talk").out
    assert "[image/png, 3.0 kB]" in shown
    assert "Let me see." in shown
    assert "→ weather" in shown
    assert "← weather rain rain" in shown
    assert "499" not in shown
    assert "499" in run("show", store, "talk", "--full").out


def test_show_obeys_no_control_character_of_a_message(run: Run, store: str) -> None:
    shown = run("show", store, "talk").out + run("list", store).out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "Weather ␛[31m[bold]" in shown


def test_show_prints_the_newest_messages_only(run: Run, store: str) -> None:
    shown = run("show", store, "talk", "--last", 1).out
    assert "Yes." in shown
    assert "raining" not in shown


def test_show_prints_json_and_markdown(run: Run, store: str) -> None:
    shown = run("show", store, "talk", "--json").json
    assert [message["id"] for message in shown["messages"]] == ["m1", "m2", "m3", "m4"]
    written = run("show", store, "talk", "--markdown").out
    assert "## assistant" in written
    assert "> Let me see." in written


def test_show_takes_the_url_from_the_environment(
    run: Run, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, store)
    assert "Yes." in run("show", "talk").out
    assert run("list").out == run("list", store).out


def test_show_as_json_obeys_no_control_character_on_a_terminal(store: str) -> None:
    message = UserMessage(id="m5", content="\x9b31m red \u202e\x7f ☃🚀")
    with create_persistence(store) as persistence:
        persistence.sessions.add_message("talk", message)
    shown = on_a_terminal("show", store, "talk", "--json", "--last", "1")
    assert shown.isascii()
    assert not set(shown) & set(map(chr, [*range(9), *range(14, 32), 127]))
    assert json.loads(shown)["messages"] == [json.loads(message.to_json())]


def test_stats_cut_no_number_off_on_a_narrow_terminal(store: str) -> None:
    shown = on_a_terminal("stats", store, columns=30)
    for whole in ("everything", "input tokens", "120", "kB", "user", "m-1"):
        assert whole in shown


@pytest.mark.parametrize("columns", [10, 40, 80])
@pytest.mark.parametrize("kind", ["sessions", "images", "containers"])
def test_lists_cut_no_id_off_on_a_narrow_terminal(store: str, kind: str, columns: int) -> None:
    id = "x" * 100 + "END"
    with create_persistence(store) as persistence:
        persistence.containers.save(ContainerRecord(container_id=id))
        persistence.images.save(ImageRecord(image_id=id, container_id="user", name="n" * 200))
        persistence.sessions.save(SessionRecord(session_id=id, title="A title " * 20))
    shown = on_a_terminal("list", store, "--kind", kind, columns=columns)
    assert id in shown
    assert "A title " * 5 not in shown


def test_stats_count_by_container_model_and_day(run: Run, store: str) -> None:
    found = run("stats", store, "--json").json
    assert found["images"] == 1
    assert found["total"]["messages"] == 4
    assert found["by_container"]["user"]["sessions"] == 1
    assert found["by_model"]["m-1"]["input_tokens"] == 120
    assert found["by_day"]["1970-01-01"]["messages"] == 1
    assert "m-1" in run("stats", store).out


def test_what_is_printed_of_a_record_is_one_line(run: Run, store: str) -> None:
    record = SessionRecord(session_id="old", title="a\n9 sessions deleted\x1b[2J", updated_at=1)
    with create_persistence(store) as persistence:
        persistence.sessions.save(record)
    assert len(run("prune", store, "--inactive", "1d").out.splitlines()) == 2
    with create_persistence(store) as persistence:
        persistence.sessions.save(record)
        persistence.sessions.add_message("old", OtherMessage(role="r\nuser", subtype="x", a=1))
    assert run("show", store, "old").out.splitlines()[0] == "a 9 sessions deleted␛[2J"
    assert "\nuser" not in run("show", store, "old").out


def test_an_error_obeys_no_control_character(run: Run, store: str, tmp_path: Path) -> None:
    with create_persistence(store) as persistence:
        export(persistence, tmp_path / "a.jsonl")
    data = (tmp_path / "a.jsonl").read_bytes()
    broken = data.replace(b'"title":', b'"metadata":{"\\u001b[31m":1e400},"title":')
    assert broken != data
    (tmp_path / "a.jsonl").write_bytes(broken)
    for arguments in (("import", tmp_path / "a.jsonl", store), ("list", "sqlite:///\x1b[31m.db")):
        ended = run(*arguments)
        assert ended.status == 2
        assert "␛[31m" in ended.err
        assert "\x1b" not in ended.err
