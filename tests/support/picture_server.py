"""One picture over HTTP, from a server that can do things to whoever asks for it."""

import os
import signal
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil


@dataclass
class PictureServer:
    """`with PictureServer(jpeg) as server: ...` serves the picture under every path, and under some of them more:

    /kill-once.jpg: the process that asks first is ended by SIGKILL.
    /deadly.jpg: each process that asks is ended by SIGSEGV, as a fault in a decoder ends it.
    /held.jpg: answered only when `released` is set; `holding` is set, and `asker` is the process, as soon as it is asked for.
    """

    picture: bytes
    asker: int = 0
    holding: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    ended: list[str] = field(default_factory=list)  # the paths for which a process was ended

    def __enter__(self) -> "PictureServer":
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if owner.answers(self.path, self.client_address[1]):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(owner.picture)))
                    self.end_headers()
                    self.wfile.write(owner.picture)

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def answers(self, path: str, port: int) -> bool:
        """Do what the path stands for to the process behind `port`; whether it still wants an answer."""
        if path == "/kill-once.jpg" and path not in self.ended:
            return self._end(path, _process_at(port), signal.SIGKILL)
        if path == "/deadly.jpg":
            return self._end(path, _process_at(port), signal.SIGSEGV)
        if path == "/held.jpg" and not self.released.is_set():
            self.asker = _process_at(port)
            self.holding.set()
            self.released.wait(timeout=120)
            return psutil.pid_exists(self.asker)
        return True

    def _end(self, path: str, process: int, how: signal.Signals) -> bool:
        self.ended.append(path)
        os.kill(process, how)
        return False


def _process_at(port: int) -> int:
    """The process that has a connection from this port."""
    return next(
        connection.pid
        for connection in psutil.net_connections("tcp4")
        if connection.laddr.port == port and connection.pid
    )
