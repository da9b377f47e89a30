"""The control service: the coordinator's calls over authenticated HTTP, durable before they are answered.

Refusals: 401 no or wrong token, 404 and 405 no such call, 413 body too large, 400 not JSON, 422 JSON of
another shape, 409 a worker or trial that is not the caller's to speak for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import resource
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aibench.api.protocol import ROUTES, Refusal
from aibench.errors import ConfigError, ProtocolError
from aibench.journal import JournalWriter
from aibench.master.coordinator import Coordinator
from aibench.master.metrics import CONTENT_TYPE, render_metrics

logger = logging.getLogger(__name__)

CONNECTIONS_PER_WORKER = 3
"""Events, heartbeats, and its proposer's."""
SPARE_FILES = 256
MAX_BODY_BYTES = 4 * 1024 * 1024
OPEN_PATHS = frozenset({"/healthz"})


def build_app(coordinator: Coordinator, journal: JournalWriter, token: str) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        journal: Waited for before any answer that may have recorded something.
        token: What ``Authorization: Bearer`` must carry on every path but ``/healthz``.
    """
    calls: dict[str, Callable[..., msgspec.Struct]] = {
        "/v1/enlist": coordinator.enlist,
        "/v1/join": coordinator.join,
        "/v1/claim": coordinator.claim,
        "/v1/epoch": coordinator.epoch,
        "/v1/finish": coordinator.finish,
        "/v1/heartbeat": coordinator.heartbeat,
        "/v1/propose": coordinator.propose,
        "/v1/history": coordinator.history_since,
    }
    endpoints = {path: _Endpoint(ROUTES[path][0], call, journal) for path, call in calls.items()}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    routes.append(Route("/metrics", _metrics_endpoint(coordinator), methods=["GET"]))
    routes.append(Route("/healthz", _healthz, methods=["GET"]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse_unknown})
    return _Authenticated(_Shortcut(app, endpoints), token)


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        ConfigError: It cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=4096)
        # Connections inherit it; asyncio itself does not set it on them. Without it, every second part of an
        # answer waits 40 ms for a delayed acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        # create_server repeats the address behind the reason.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise ConfigError("control.host", f"cannot listen on {host}:{port} ({reason})") from error
    return listener


def allow_connections(num_workers: int) -> None:
    """Raise this process's limit of open files to what so many workers take.

    Raises:
        ConfigError: The system does not allow that many.
    """
    needed = num_workers * CONNECTIONS_PER_WORKER + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            "workers",
            f"{num_workers} workers take up to {needed} open files, this system allows {hard} (ulimit -Hn)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class ControlServer(uvicorn.Server):
    """Uvicorn inside the master's own event loop; signals stay the master's."""

    def __init__(self, app: ASGIApp, *, keep_alive_s: float) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=math.ceil(keep_alive_s),
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the master."""
        yield


class _Authenticated:
    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not secrets.compare_digest(given, self._expected):
                refusal = msgspec.json.encode(Refusal(error="a valid bearer token is required"))
                headers = {"WWW-Authenticate": "Bearer"}
                await Response(refusal, 401, headers, "application/json")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Shortcut:
    """Calls of the protocol by a look at one table; routing them costs as much as answering them."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_call = scope["type"] == "http" and scope["method"] == "POST"
        app = self._endpoints.get(scope["path"], self._app) if is_call else self._app
        await app(scope, receive, send)


class _Endpoint:
    """One call: its request's type, and who answers.

    A class, because routes take functions for something else than an ASGI application.
    """

    def __init__(
        self,
        request_type: type[msgspec.Struct],
        call: Callable[..., msgspec.Struct],
        journal: JournalWriter,
    ) -> None:
        self._decoder = msgspec.json.Decoder(request_type)
        self._call = call
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, answer = 200, await self._answer(await _read_body(receive))
        except ProtocolError as error:
            logger.info("refused: %s", error)
            status, answer = error.status, Refusal(error=error.problem, must_join=error.must_join)
        except ClientDisconnect:
            # A worker that ended amid its request hears nothing, and is no failure of the master's.
            logger.info("a caller was gone before its request had arrived")
            return
        await _send_json(send, status, msgspec.json.encode(answer))

    async def _answer(self, body: bytes) -> msgspec.Struct:
        message = _decode(self._decoder, body)
        try:
            return self._call(message)
        finally:
            await self._journal.durable()


async def _send_json(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _metrics_endpoint(coordinator: Coordinator) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return Response(render_metrics(coordinator), media_type=CONTENT_TYPE)

    return endpoint


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _refuse_unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = msgspec.json.encode(Refusal(error=error.detail))
    return Response(refusal, error.status_code, error.headers, "application/json")


async def _read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError(413, f"body is larger than {MAX_BODY_BYTES} bytes")
    return body


def _decode(decoder: msgspec.json.Decoder[msgspec.Struct], body: bytes) -> msgspec.Struct:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProtocolError(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(400, f"not JSON: {error}") from error
