"""Images: the snapshots of agents."""

from agentx_persistence.records._fields import NOW, Id, Millis, Name, Text, id_field
from agentx_persistence.records._json_values import JsonObject
from agentx_persistence.records._record import Record, many


class ImageMetadata(Record, kind="image metadata"):
    """What an application remembers about an image. Any further keys are kept."""

    driver_session_id: Text | None = None


class ImageRecord(
    Record,
    kind="image",
    generated=("image_id", "session_id", "created_at", "updated_at"),
    ids=(
        *("image_id", "container_id", "session_id", "role_id", "os_id"),
        *("prototype_id", "parent_image_id"),
    ),
    open_fields=("mcp_servers", "provider_options", "custom_data"),
):
    """A snapshot of an agent: its name, model, prompt and settings.

    `thinking` is any text. AgentX knows the levels "disabled", "low", "medium" and "high".
    """

    image_id: Id = id_field("img")
    container_id: Id
    session_id: Id = id_field("sess")
    name: Name | None = None
    description: Text | None = None
    role_id: Id | None = None
    os_id: Id | None = None
    model: Text | None = None
    system_prompt: Text | None = None
    mcp_servers: JsonObject | None = None
    thinking: Text | None = None
    provider_options: JsonObject | None = None
    prototype_id: Id | None = None
    parent_image_id: Id | None = None
    metadata: ImageMetadata | None = None
    custom_data: JsonObject | None = None
    created_at: Millis = NOW
    updated_at: Millis = NOW


IMAGES = many(ImageRecord)
