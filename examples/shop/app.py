"""A shop whose customers talk to an agent. Both keep their data in one database.

pip install '.[sqlite]' flask
cd examples
export SHOP_URL=sqlite:///shop.db
alembic -c shop/alembic.ini upgrade head            # the shop's tables
python -m agentx_persistence upgrade $SHOP_URL      # the conversations' tables
flask --app shop.app run
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from shop.models import Order, User
from sqlalchemy import create_engine, orm, select

from agentx_persistence import (
    AssistantMessage,
    PersistenceError,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.sql import SessionRow, visible

SOLD_OUT = {"unicorn"}


def create_app(url: str | None = None) -> Flask:
    url = url or os.environ["SHOP_URL"]
    app = Flask(__name__)
    engine = create_engine(url)
    persistence = create_persistence(url, migrate=False)
    app.extensions["persistence"], app.extensions["engine"] = persistence, engine
    sessions = orm.sessionmaker(engine)

    @app.post("/users")
    def add_user() -> Any:
        with sessions.begin() as unit:
            unit.add(User(id=request.json["id"], name=request.json["name"]))
        return {}, 201

    @app.post("/users/<user>/conversations/<conversation>")
    def say(user: str, conversation: str) -> Any:
        made = SessionRecord(session_id=conversation, container_id=user)
        said = UserMessage(content=request.json["text"])
        return {"position": persistence.sessions.add_message(conversation, said, create=made)}, 201

    @app.get("/conversations/<conversation>")
    def read(conversation: str) -> Any:
        messages = persistence.sessions.get_messages(conversation)
        return [{"role": message.role, "text": message.text} for message in messages]

    @app.post("/users/<user>/conversations/<conversation>/orders")
    def order(user: str, conversation: str) -> Any:
        """The order and the agent's answer are kept together, or neither is."""
        product = request.json["product"]
        with sessions.begin() as unit:
            unit.add(Order(user_id=user, product=product))
            answer = AssistantMessage(content=f"I have ordered: {product}.")
            persistence.within(unit).sessions.add_message(conversation, answer)
            if product in SOLD_OUT:
                raise SoldOutError(product)
        return {}, 201

    @app.get("/conversations")
    def conversations() -> Any:
        """The shop's users and their conversations, by one statement."""
        with sessions() as unit:
            rows = unit.execute(
                select(User.name, SessionRow.session_id, SessionRow.message_count)
                .join(SessionRow, SessionRow.container_id == User.id)
                .where(visible(SessionRow))
                .order_by(SessionRow.latest, SessionRow.session_id)
            )
            return [
                {"user": name, "conversation": id, "messages": count} for name, id, count in rows
            ]

    @app.errorhandler(SoldOutError)
    def sold_out(error: SoldOutError) -> Any:
        return {"error": f"{error} is sold out"}, 409

    @app.errorhandler(RecordNotFoundError)
    def not_found(error: PersistenceError) -> Any:
        return {"error": str(error)}, 404

    return app


class SoldOutError(Exception):
    pass
