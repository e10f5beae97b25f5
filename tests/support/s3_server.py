"""An S3 server on loopback (moto's), to which s3:// addresses lead while it runs."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from pyarrow import fs

from scoring.storage import _file_system


SECONDS_TO_START = 60


class S3Server:
    """A server with an empty bucket, s3://pictures. `env` is for processes that use it."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.env = {
            "AWS_ENDPOINT_URL": f"http://{self.host}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "loopback",
            "AWS_SECRET_ACCESS_KEY": "loopback",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> None:
        options = {"endpoint_override": self.host, "scheme": "http", "region": "us-east-1"}
        keys = {"access_key": "loopback", "secret_key": "loopback"}
        fs.S3FileSystem(allow_bucket_creation=True, **options, **keys).create_dir("pictures")

    def check_credentials(self, after: int = 0) -> None:
        """After so many more requests, or from now on, refuse everybody: the server knows no account."""
        headers = {"Content-Type": "text/plain"}
        count = str(after).encode()
        urlopen(Request(f"http://{self.host}/moto-api/reset-auth", count, headers, method="POST")).read()

    def allow_everybody(self) -> None:
        self.check_credentials(after=10**9)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server that this process, and those that it starts, use for s3:// addresses."""
    pytest.importorskip("moto", reason="needs moto's S3 server: pip install -r requirements-dev.txt")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait_for(port)
            server = S3Server(port)
            server.make_bucket()
            with pytest.MonkeyPatch.context() as patch:
                for name, value in server.env.items():
                    patch.setenv(name, value)
                _file_system.cache_clear()  # it remembers the endpoint
                yield server
        finally:
            _file_system.cache_clear()
            process.kill()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
