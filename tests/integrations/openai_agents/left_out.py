"""The SDK's tests that ours cannot pass, with the reasons; all else in those files has to pass."""

from __future__ import annotations

_PRIVATE = "uses private attributes of SQLiteSession: its connections, locks and tables"
_OWN_FORMAT = "damages the rows of SQLiteSession's own tables; ours raises CorruptRecordError"
_HOOK = (
    "asks for a private hook of the SDK's two SQL sessions, which replaces a suffix of the items"
)
_WRONG_KEY = "a pop with a wrong key: EncryptedSession asks SQLiteSession's private hook only"

LEFT_OUT = {
    "test_session.py": {
        "test_sqlite_session_close_closes_worker_thread_connections": _PRIVATE,
        "test_sqlite_session_reaps_connections_from_exited_worker_threads": _PRIVATE,
        "test_sqlite_session_closes_retired_connections_before_the_next_allocation": (_PRIVATE),
        "test_sqlite_session_keeps_connections_of_live_worker_threads": _PRIVATE,
        "test_sqlite_session_file_lock_is_shared_across_instances": _PRIVATE,
        "test_sqlite_session_rollback_failure_evicts_connection": _PRIVATE,
        "test_sqlite_session_close_retries_quarantined_connection": _PRIVATE,
        "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome": (
            f"{_PRIVATE}; tests/integrations/openai_agents/test_session.py cancels ours"
        ),
        "test_sqlite_session_closed_rejects_empty_add_items": (
            "closes the session; ours has nothing to close"
        ),
        "test_sqlite_session_pop_item_skips_corrupt_most_recent": _OWN_FORMAT,
        "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows": (_OWN_FORMAT),
        "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows": _OWN_FORMAT,
        "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows": (_OWN_FORMAT),
        "test_sqlite_session_failed_add_items_releases_write_lock": (
            "expects TypeError for what is no JSON, and looks at its own tables; ours raises"
            " InvalidRecordError, a ValueError"
        ),
        "test_sqlite_session_failed_clear_session_rolls_back": _OWN_FORMAT,
        "test_sqlite_session_failed_pop_item_releases_write_lock": _OWN_FORMAT,
    },
    "test_encrypt_session.py": {
        "test_encrypted_compaction_skips_unencrypted_stored_history": _HOOK,
        "test_encrypted_pop_authentication_is_atomic_with_concurrent_mutations": _WRONG_KEY,
        "test_encrypted_pop_cancellation_waits_for_authentication_rollback": _WRONG_KEY,
        "test_encrypted_pop_rechecks_authentication_after_expired_tail": _WRONG_KEY,
        "test_encrypted_pop_wrong_key_preserves_recoverable_history": _WRONG_KEY,
        "test_encrypted_pop_wrong_key_preserves_row_identity": _WRONG_KEY,
        "test_encrypted_pop_preserves_sqlalchemy_history": "tests SQLAlchemySession",
        "test_encrypted_session_scan_budget_rejects_negative_limit_before_read": (
            "reads with a negative limit, which is no limit to SQLite; ours refuses it"
        ),
    },
    "test_compaction_model_visibility.py": {
        "test_automatic_compaction_does_not_reload_unbounded_hidden_history": _HOOK,
        "test_backend_read_limit_cannot_hide_retained_history_from_compaction": _HOOK,
        "test_expired_read_overhead_does_not_authorize_hidden_history": _HOOK,
    },
    "test_openai_responses_compaction_session.py": {
        "test_automatic_compaction_rollback_budget": _HOOK,
        "test_settled_clear_failure_invalidates_response_chain": _PRIVATE,
        "test_settled_pop_failure_invalidates_response_chain": _PRIVATE,
    },
}
