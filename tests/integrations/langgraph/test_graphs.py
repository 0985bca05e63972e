"""Graphs that LangGraph itself runs, with all kinds of messages."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import Command, Send, interrupt

from agentx_persistence import Persistence
from agentx_persistence.integrations.langgraph import PersistentSaver, PersistentStore

THREAD: Any = {"configurable": {"thread_id": "conversation"}}

MESSAGES: list[AnyMessage] = [
    SystemMessage("Be brief.", id="m1"),
    HumanMessage("Hello! 🙂\x00", id="m2", name="ada", additional_kwargs={"a": None}),
    HumanMessage(
        [
            {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"},
            {"type": "file", "file_id": "file_1"},
        ],
        id="m3",
    ),
    AIMessage(
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "Zm9v", "summary": []},
            {"type": "text", "text": "See.", "citations": [{"url": "https://example.org"}]},
            {"type": "refusal", "refusal": "No."},
        ],
        id="m4",
        tool_calls=[
            {"name": "ls", "args": {"path": "/"}, "id": "call_1", "type": "tool_call"},
            {"name": "ls", "args": {"path": "."}, "id": "call_2", "type": "tool_call"},
        ],
        invalid_tool_calls=[
            {
                "name": "rm",
                "args": "{",
                "id": "call_3",
                "error": "no JSON",
                "type": "invalid_tool_call",
            }
        ],
        usage_metadata={
            "input_tokens": 9,
            "output_tokens": 2,
            "total_tokens": 11,
            "input_token_details": {"cache_read": 5},
        },
        response_metadata={"model_name": "m", "logprobs": [0.1, None]},
    ),
    ToolMessage("a b", tool_call_id="call_1", id="m5", artifact={"rows": [1, 2.5]}),
    ToolMessage([{"type": "text", "text": "?"}], tool_call_id="call_2", status="error", id="m6"),
    ChatMessage("Noted.", role="critic", id="m7"),
    FunctionMessage("1", name="f", id="m8"),
]


def test_every_kind_of_message_comes_back_equal(persistence: Persistence) -> None:
    left = list(MESSAGES)

    def add(state: MessagesState) -> Any:
        return {"messages": [left.pop(0)]}

    builder = StateGraph(MessagesState)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    builder.add_conditional_edges("add", lambda state: "add" if left else END)
    graph = builder.compile(checkpointer=PersistentSaver(persistence))
    graph.invoke({"messages": []}, THREAD)
    again = builder.compile(checkpointer=PersistentSaver(persistence))
    assert again.get_state(THREAD).values["messages"] == MESSAGES
    dumped = [message.model_dump() for message in again.get_state(THREAD).values["messages"]]
    assert dumped == [message.model_dump() for message in MESSAGES]
    lengths = [len(each.values["messages"]) for each in again.get_state_history(THREAD)]
    assert lengths == [*range(len(MESSAGES), -1, -1), 0]
    again.update_state(THREAD, {"messages": [RemoveMessage(id="m1")]}, as_node="add")
    assert again.get_state(THREAD).values["messages"] == MESSAGES[1:]


class _State(TypedDict):
    words: Annotated[list[str], operator.add]


def test_an_interrupted_graph_goes_on_in_another_process(persistence: Persistence) -> None:
    def ask(state: _State) -> Any:
        return {"words": [interrupt("name?")]}

    def inner(state: _State) -> Any:
        return {"words": [f"inner {interrupt('sure?')}"]}

    below = StateGraph(_State)
    below.add_node("inner", inner)
    below.add_edge(START, "inner")
    builder = StateGraph(_State)
    builder.add_node("ask", ask)
    builder.add_node("below", below.compile())
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "below")

    def graph() -> Any:
        return builder.compile(checkpointer=PersistentSaver(persistence))

    assert graph().invoke({"words": ["a"]}, THREAD)["__interrupt__"][0].value == "name?"
    assert graph().get_state(THREAD).next == ("ask",)
    assert graph().invoke(Command(resume="Ada"), THREAD)["__interrupt__"][0].value == "sure?"
    state = graph().get_state(THREAD, subgraphs=True)
    assert state.tasks[0].state.next == ("inner",)
    assert graph().invoke(Command(resume="yes"), THREAD)["words"][:2] == ["a", "Ada"]
    assert "inner yes" in graph().get_state(THREAD).values["words"]


async def test_time_travel_forks_a_thread(persistence: Persistence) -> None:
    def split(state: _State) -> Any:
        return [Send("word", {"words": [text]}) for text in ("x", "y", "z")]

    async def word(state: _State) -> Any:
        return {"words": [f"{state['words'][-1]}!"]}

    builder = StateGraph(_State)
    builder.add_node("word", word)
    builder.add_conditional_edges(START, split, ["word"])
    graph = builder.compile(checkpointer=PersistentSaver(persistence))
    assert (await graph.ainvoke({"words": []}, THREAD))["words"] == ["x!", "y!", "z!"]
    history = [each async for each in graph.aget_state_history(THREAD)]
    first = history[-1]
    fork = await graph.aupdate_state(first.config, {"words": ["other"]}, as_node="__start__")
    assert (await graph.ainvoke(None, fork))["words"][0] == "other"
    assert (await graph.aget_state(history[0].config)).values == history[0].values
    old = [each.config for each in history]
    assert [each.config async for each in graph.aget_state_history(THREAD)][-len(old) :] == old


def test_a_node_reads_and_writes_memories(persistence: Persistence) -> None:
    def remember(state: MessagesState, *, store: BaseStore) -> Any:
        known = store.search(("ada", "memories"))
        store.put(("ada", "memories"), f"m{len(known)}", {"text": state["messages"][-1].content})
        return {"messages": [AIMessage(f"I know {len(known)} things.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("remember", remember)
    builder.add_edge(START, "remember")
    store = PersistentStore(persistence)
    graph = builder.compile(checkpointer=PersistentSaver(persistence), store=store)
    for number in range(3):
        answer = graph.invoke({"messages": [HumanMessage("I like tea.")]}, THREAD)
        assert answer["messages"][-1].content == f"I know {number} things."
    assert store.get(("ada", "memories"), "m0").value == {"text": "I like tea."}  # type: ignore[union-attr]


def test_the_code_of_its_page_prints_what_it_says(run_page: Callable[[str], str]) -> None:
    assert run_page("langgraph.md").splitlines() == [
        "In San Francisco.",
        "human Where is the Golden Gate Bridge?",
        "ai In San Francisco.",
    ]
