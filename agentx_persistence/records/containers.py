"""Containers: the owners of sessions, images and items."""

from agentx_persistence.records._fields import NOW, Id, Millis, id_field
from agentx_persistence.records._json_values import JsonObject
from agentx_persistence.records._record import Record, many


class ContainerRecord(
    Record,
    kind="container",
    generated=("container_id", "created_at", "updated_at"),
    ids=("container_id",),
    open_fields=("config",),
):
    """A container owns sessions, images and items. Often there is one for each user."""

    container_id: Id = id_field("ctr")
    created_at: Millis = NOW
    updated_at: Millis = NOW
    config: JsonObject | None = None


CONTAINERS = many(ContainerRecord)
