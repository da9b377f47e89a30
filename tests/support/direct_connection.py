"""A worker's connection that reaches the coordinator of a `FakeMaster` without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from support.fake_master import FakeMaster

from aibench.api.protocol import ROUTES

Reply = TypeVar("Reply", bound=msgspec.Struct)


class DirectConnection:
    """Both ways pass through JSON; ``sent`` are the requests, ``replies`` what is answered instead, once."""

    def __init__(self, master: FakeMaster) -> None:
        self.master = master
        self.sent: list[Any] = []
        self.replies: dict[str, list[Any]] = {}

    def call_until(
        self, path: str, message: msgspec.Struct, reply_type: type[Reply], *, timeout_s: float
    ) -> Reply:
        self.sent.append(message)
        request = msgspec.json.decode(msgspec.json.encode(message), type=ROUTES[path][0])
        replies = self.replies.get(path)
        answer = replies.pop(0) if replies else self._calls[path](request)
        return msgspec.json.decode(msgspec.json.encode(answer), type=reply_type)

    def close(self) -> None:
        pass

    @property
    def _calls(self) -> dict[str, Callable[..., msgspec.Struct]]:
        coordinator = self.master.coordinator
        return {"/v1/history": coordinator.history_since, "/v1/propose": coordinator.propose}
