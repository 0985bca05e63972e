"""Every kind of item that the Responses API sends and takes."""

from __future__ import annotations

from typing import Any

_IMAGE = "data:image/png;base64,iVBORw0KGgo="

ITEMS: dict[str, dict[str, Any]] = {
    "plain user message": {"role": "user", "content": "Grüße, \u0000 and 😊 \ud7ff"},
    "system message": {"role": "system", "content": "Be brief."},
    "developer message": {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": "Be brief."}],
    },
    "image": {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": _IMAGE, "detail": "auto", "file_id": None},
        ],
    },
    "audio": {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}],
    },
    "file": {
        "role": "user",
        "content": [
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,"}
        ],
    },
    "answer with citations": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "Paris.",
                "logprobs": [{"token": "Paris", "bytes": [80], "logprob": -1e-07}],
                "annotations": [
                    {
                        "type": "url_citation",
                        "start_index": 0,
                        "end_index": 5,
                        "url": "https://example.org/",
                        "title": "Paris",
                    },
                    {"type": "file_citation", "file_id": "file_1", "filename": "a", "index": 0},
                ],
            }
        ],
    },
    "refusal": {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": "I cannot do that."}],
    },
    "reasoning": {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Look first."}],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "encrypted_content": "gAAAAABm" * 100,
        "status": None,
    },
    "tool call": {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city": "Paris", "days": 1.0}',
        "status": "completed",
    },
    "parallel tool call": {
        "type": "function_call",
        "call_id": "call_2",
        "name": "weather",
        "arguments": '{"city": ',
    },
    "tool result": {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
    "tool result with parts": {
        "type": "function_call_output",
        "call_id": "call_2",
        "output": [{"type": "input_image", "image_url": _IMAGE}],
    },
    "built-in search": {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "Paris", "sources": []},
    },
    "computer call": {
        "id": "cu_1",
        "type": "computer_call",
        "call_id": "call_3",
        "action": {"type": "click", "button": "left", "x": 1, "y": 2},
        "pending_safety_checks": [],
        "status": "completed",
    },
    "computer result": {
        "type": "computer_call_output",
        "call_id": "call_3",
        "output": {"type": "computer_screenshot", "image_url": _IMAGE},
    },
    "generated image": {
        "id": "ig_1",
        "type": "image_generation_call",
        "status": "completed",
        "result": "iVBORw0KGgo=",
    },
    "code": {
        "id": "ci_1",
        "type": "code_interpreter_call",
        "container_id": "cntr_1",
        "code": "1 + 1",
        "outputs": [{"type": "logs", "logs": "2"}],
        "status": "completed",
    },
    "MCP call": {
        "id": "mcp_1",
        "type": "mcp_call",
        "server_label": "files",
        "name": "list",
        "arguments": "{}",
        "output": None,
        "error": {"type": "http", "code": 500},
    },
    "compaction": {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAA"},
    "reference": {"type": "item_reference", "id": "msg_1"},
    "fields of tomorrow": {
        "type": "new",
        "id": "msg_1",
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "parentId": "",
        "timestamp": "now",
        "subtype": None,
        "numbers": [1, 1.0, -0.5, 2**63, True, None],
        "nested": {"b": {}, "a": []},
    },
}
