"""The records: what a repository takes and gives back.

A record is a frozen pydantic model. Attributes are snake_case, its JSON is AgentX's camelCase, and
both spellings are accepted on input. Fields that this version does not know are kept. All times are
Unix milliseconds. `Record.to_json` and `Record.model_validate_json` are exact inverses; what could
not be given back exactly is refused with `InvalidRecordError`.
"""

from agentx_persistence.records._fields import check_id, check_name, new_id, now
from agentx_persistence.records._record import Record
from agentx_persistence.records.containers import CONTAINERS, ContainerRecord
from agentx_persistence.records.images import IMAGES, ImageMetadata, ImageRecord
from agentx_persistence.records.messages import MESSAGES, Message, MessageRecord
from agentx_persistence.records.sessions import SESSIONS, SessionRecord

__all__ = [
    "CONTAINERS",
    "IMAGES",
    "MESSAGES",
    "SESSIONS",
    "ContainerRecord",
    "ImageMetadata",
    "ImageRecord",
    "Message",
    "MessageRecord",
    "Record",
    "SessionRecord",
    "check_id",
    "check_name",
    "new_id",
    "now",
]
