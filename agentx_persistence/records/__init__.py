"""The records: what a repository takes and gives back.

A record is a frozen pydantic model. Attributes are snake_case, its JSON is AgentX's camelCase, and
both spellings are accepted on input. Fields that this version does not know are kept. All times are
Unix milliseconds. `Record.to_json` and `Record.model_validate_json` are exact inverses; what could
not be given back exactly is refused with `InvalidRecordError`.
"""

from agentx_persistence.records._building import ready
from agentx_persistence.records._fields import check_id, check_name, id_problem, new_id, now, plain
from agentx_persistence.records._json_values import exact_json
from agentx_persistence.records._record import Record
from agentx_persistence.records._refusals import MisspeltFieldWarning
from agentx_persistence.records.containers import CONTAINERS, ContainerRecord
from agentx_persistence.records.images import IMAGES, ImageMetadata, ImageRecord
from agentx_persistence.records.items import ITEMS, ItemRecord, check_namespace
from agentx_persistence.records.messages import (
    MESSAGES,
    Message,
    MessageRecord,
    difference,
    parse_message,
)
from agentx_persistence.records.sessions import SESSIONS, ForkOrigin, SessionRecord

__all__ = [
    "CONTAINERS",
    "IMAGES",
    "ITEMS",
    "MESSAGES",
    "SESSIONS",
    "ContainerRecord",
    "ForkOrigin",
    "ImageMetadata",
    "ImageRecord",
    "ItemRecord",
    "Message",
    "MessageRecord",
    "MisspeltFieldWarning",
    "Record",
    "SessionRecord",
    "check_id",
    "check_name",
    "check_namespace",
    "difference",
    "exact_json",
    "id_problem",
    "new_id",
    "now",
    "parse_message",
    "plain",
    "ready",
]
