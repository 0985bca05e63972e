"""The SDK's tests that ours cannot pass, with the reasons; all else in those files has to pass."""

from __future__ import annotations

_FILES = "looks at the files of FileSessionManager, or damages them"
_OPEN = "lets open() fail for the whole process, and expects Strands' own error for it"
_PATHS = "refuses what is no safe path; ours makes no paths of ids and keys, and keeps any"
_MEMORY = "uses what only InMemoryStorage has: clear(), a strategy of searching, private marks"
_INLINE = "expects what is kept in memory to be copied into the snapshot; ours is durable"

_MANAGER, _SNAPSHOTS = "test_file_session_manager.py", "test_snapshot_session_manager.py"
_STORAGE = "test_in_memory_storage.py"

LEFT_OUT = {
    f"{_MANAGER}::test_create_session": _FILES,
    f"{_MANAGER}::test_delete_session": _FILES,
    f"{_MANAGER}::test_create_agent": _FILES,
    f"{_MANAGER}::test_create_message": _FILES,
    f"{_MANAGER}::test_message_durable_id_persists": _FILES,
    f"{_MANAGER}::test_corrupted_json_file": _FILES,
    f"{_MANAGER}::test_permission_error_handling": _OPEN,
    f"{_MANAGER}::test_create_multi_agent": _FILES,
    f"{_MANAGER}::test_create_session_multi_agent_directory_structure": _FILES,
    f"{_MANAGER}::test__get_session_path_invalid_session_id": _PATHS,
    f"{_MANAGER}::test__get_agent_path_invalid_agent_id": _PATHS,
    f"{_MANAGER}::test__get_message_path_invalid_message_id": _PATHS,
    f"{_SNAPSHOTS}::test_save_omits_stash_when_empty": _INLINE,
    f"{_SNAPSHOTS}::test_immutable_snapshot_includes_stash": _INLINE,
    f"{_SNAPSHOTS}::test_ephemeral_detection_survives_namespacing": _INLINE,
    f"{_STORAGE}::test_rejects_path_traversal": _PATHS,
    f"{_STORAGE}::test_clear": _MEMORY,
    f"{_STORAGE}::test_namespace_returns_scoped_instance": _MEMORY,
    f"{_STORAGE}::test_namespace_passes_scoped_instance_to_strategy": _MEMORY,
    f"{_STORAGE}::test_namespace_clear_only_clears_prefix": _MEMORY,
    f"{_STORAGE}::test_write_indexes_with_search_strategy": _MEMORY,
    f"{_STORAGE}::test_search_delegates_to_strategy": _MEMORY,
}
