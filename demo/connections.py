"""Limits of connections: uvicorn's own settings, and what it has none for."""

import asyncio
from collections import Counter
from typing import Any

from gradio.http_server import Server
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from demo.limits import RequestLimits
from demo.metering import client_key
from demo.origins import TrustedForwarding
from demo.settings import Settings


HEADER_BYTES = 32_000
HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15
MAX_PER_CLIENT = 100  # connections


def configure(config: Config, settings: Settings) -> None:
    """Set the limits in uvicorn's configuration before it is loaded."""
    config.http = LimitedProtocol  # uvicorn limits the size of headers in its h11 protocol only
    config.h11_max_incomplete_event_size = HEADER_BYTES
    config.limit_concurrency = settings.max_connections
    config.timeout_keep_alive = KEEP_ALIVE_SECONDS
    config.ws = "none"
    config.server_header = False
    config.proxy_headers = False  # TrustedForwarding does it
    trusted = config.forwarded_allow_ips
    LimitedProtocol.trusted = TrustedForwarding(RequestLimits(config.app, settings), trusted)  # type: ignore[arg-type]
    config.app = LimitedProtocol.trusted


class LimitedServer(Server):
    """Gradio passes hardly any of uvicorn's settings on:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/http_server.py#L137
    """

    def __init__(self, settings: Settings, config: Config, **options: Any):
        configure(config, settings)
        super().__init__(config, **options)


class LimitedProtocol(H11Protocol):
    """Closes a connection whose client takes long to name its request, and those beyond `MAX_PER_CLIENT`."""

    trusted: TrustedForwarding
    open: Counter[str] = Counter()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._header_deadline: asyncio.TimerHandle | None = None
        host = self.client[0] if self.client else ""
        self._key = "" if host in self.trusted.trusted_hosts else client_key(host)  # a proxy's are of many clients
        self.open[self._key] += 1
        if self._key and self.open[self._key] > MAX_PER_CLIENT:
            transport.abort()
        else:
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.open[self._key] -= 1
        if not self.open[self._key]:
            del self.open[self._key]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._header_deadline is None:  # the first bytes of a further request
            self._wait_for_header()

    def _wait_for_header(self) -> None:
        self._header_deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None
