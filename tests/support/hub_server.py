"""A Hub on loopback for tests: the HTTP API that the real `huggingface_hub` client calls, with faults on demand.

    python -m tests.support.hub_server --port 8900      # prints the variables that point a shell at it

Left out: downloads from Xet storage (`HF_HUB_DISABLE_XET=1`), gated repositories, search, discussions as text, running
Spaces.
"""

import argparse
import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.hub_access import USER, Account, Hub
from tests.support.hub_api import build_app
from tests.support.hub_storage import Repository


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose path contains `path`.

    "status": answered with `status` and a page that is not JSON, as gateways do, without being carried out.
    "drop": the connection is cut before the request is read. "drop_answer": carried out, then cut before the answer.
    "hold": `reached` is set and nothing more happens until `released` is set; then the connection is cut.
    """

    kind: Literal["status", "drop", "drop_answer", "hold"]
    method: str
    path: str
    times: int = 1
    status: int = 503
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class HubServer:
    """The Hub on a free loopback port, served from a thread: `with HubServer(home) as hub: ...`.

    `token` may write in the namespaces "user" and "org", `read_token` may only read there, `stranger_token` belongs to
    somebody else. `requests` lists (method, path) of all that came in.
    """

    token = "hf_" + "LoopbackWriter" * 2 + "abcdef"
    read_token = "hf_" + "LoopbackReader" * 2 + "abcdef"
    stranger_token = "hf_" + "LoopbackGuest" * 2 + "abcdefgh"

    def __init__(self, home: Path, port: int = 0) -> None:
        self.home = home
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._hub = Hub(
            url=self.url,
            xet_folder=str(home / "xet_storage"),
            accounts={
                self.token: Account(USER, "write"),
                self.read_token: Account(USER, "read"),
                self.stranger_token: Account("stranger", "write"),
            },
        )
        self._app = build_app(self._hub)
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process that knows no Hub but this one; the endpoint is read at the client's import."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING_FACE_"))}
        return outside | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def __enter__(self) -> "HubServer":
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"the loopback Hub did not start on {self.url}")
            self._thread.join(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self.faults:
            fault.released.set()
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def inject(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def repository(self, repo_id: str, kind: str = "models") -> Repository:
        return self._hub.repositories[kind, repo_id]

    def take_from_xet(self, contents: Iterable[bytes]) -> None:
        """Accept a commit that names these contents: their uploads by Xet go past this server."""
        self._hub.lfs_objects |= {hashlib.sha256(content).hexdigest(): content for content in contents}

    def uploaded(self) -> list[bytes]:
        """The content of every file that ever arrived, committed or not."""
        commits = [commit for kept in self._hub.repositories.values() for commit in kept.all_commits.values()]
        return [*self._hub.lfs_objects.values(), *(f.content for commit in commits for f in commit.files.values())]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts the request, lets a fault have its way with it, and keeps %2F of a revision apart from the path."""
        scope["path"] = scope["raw_path"].decode()
        self.requests.append((scope["method"], unquote(scope["path"])))
        fault = next(
            (f for f in self.faults if f.times > 0 and f.method == scope["method"] and f.path in scope["path"]), None
        )
        if fault is None:
            await self._app(scope, receive, send)
            return
        fault.times -= 1
        if fault.kind == "status":
            page = Response("<html><h1>try again later</h1></html>", fault.status, media_type="text/html")
            await page(scope, receive, send)
            return
        if fault.kind == "drop_answer":
            await self._app(scope, receive, _discard)
        fault.reached.set()
        while fault.kind == "hold" and not fault.released.is_set():
            await asyncio.sleep(0.02)
        send.__self__.transport.abort()  # uvicorn's request cycle: ASGI itself knows no way to cut a connection
        await asyncio.sleep(0.02)  # lets uvicorn notice, so that it does not log an answer that never came


async def _discard(message: object) -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an empty Hub on loopback until Ctrl-C.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--home", type=Path, default=Path("hub_home"), help="HF_HOME of the printed environment")
    args = parser.parse_args()
    with HubServer(args.home.resolve(), args.port) as hub:
        for key, value in hub.env.items():
            if key.startswith("HF_"):
                print(f"export {key}={value}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
