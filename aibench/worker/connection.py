"""One side of the control protocol: typed calls over HTTP, retried while the master is away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec
import tenacity

from aibench.api.protocol import ControlAddress, Refusal
from aibench.errors import MasterAwayError, ProtocolError

logger = logging.getLogger(__name__)

Reply = TypeVar("Reply", bound=msgspec.Struct)
Message = msgspec.Struct | Callable[[], msgspec.Struct]

REQUEST_TIMEOUT_S = 30.0
MAX_RETRY_PAUSE_S = 3.0


class Connection:
    """Calls to the master whose address stands in ``control_file``; used by one thread.

    The file is read again after every failure: a restarted master may listen elsewhere.
    """

    def __init__(self, control_file: Path) -> None:
        self._control_file = control_file
        self._client: httpx.Client | None = None

    def call(self, path: str, message: Message, reply_type: type[Reply]) -> Reply:
        """Ask once.

        Args:
            message: What to send, or what makes it at the moment of sending.

        Raises:
            MasterAwayError: No answer, one of 401 or 5xx, or one that is not of this protocol: the master's
                port may have passed to another program.
            ProtocolError: The master refused.
        """
        try:
            content = msgspec.json.encode(message() if callable(message) else message)
            response = self._open().post(path, content=content)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, msgspec.MsgspecError) as error:
            self.close()
            raise MasterAwayError(f"{path}: {error}") from error
        if response.status_code == httpx.codes.UNAUTHORIZED or response.is_server_error:
            self.close()
            raise MasterAwayError(f"{path}: HTTP {response.status_code}")
        try:
            if response.is_success:
                return msgspec.json.decode(response.content, type=reply_type)
            refusal = msgspec.json.decode(response.content, type=Refusal)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.close()
            raise MasterAwayError(f"{path}: HTTP {response.status_code}, not the master's words") from error
        raise ProtocolError(response.status_code, refusal.error, must_join=refusal.must_join)

    @property
    def is_run_over(self) -> bool:
        """Whether a master that ended its run took the address away; one that died leaves it."""
        return not self._control_file.exists()

    def call_until(
        self,
        path: str,
        message: Message,
        reply_type: type[Reply],
        *,
        timeout_s: float,
        ends_with_run: bool = False,
    ) -> Reply:
        """Ask until the master answers.

        Args:
            ends_with_run: Whether to give up when the run is over.

        Raises:
            MasterAwayError: It did not within ``timeout_s``.
            ProtocolError: It refused.
        """
        is_late = tenacity.stop_after_delay(timeout_s)
        retrying: Callable[..., Reply] = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(MasterAwayError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=MAX_RETRY_PAUSE_S),
            stop=lambda state: is_late(state) or (ends_with_run and self.is_run_over),
            reraise=True,
        )
        return retrying(self.call, path, message, reply_type)

    def close(self) -> None:
        """Drop the connection; the next call opens a new one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> httpx.Client:
        if self._client is None:
            address = msgspec.json.decode(self._control_file.read_bytes(), type=ControlAddress)
            self._client = httpx.Client(
                base_url=address.url,
                headers={"Authorization": f"Bearer {address.token}", "Content-Type": "application/json"},
                timeout=REQUEST_TIMEOUT_S,
                # A proxy meant for the internet must not see the run's private traffic.
                trust_env=False,
            )
        return self._client
