"""A desk whose model answers when the test says so."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from demo.desk import Desk
from demo.storage import Files, UploadSpace


CONCURRENCY, QUEUE_SIZE = 3, 4
FORM = {"files": {"picture": b"a picture"}}
PATIENCE = 30.0  # seconds, on a busy machine


class SlowModel:
    """Answers nobody before `may_answer` is set, except those whose picture says that they are quick."""

    def __init__(self, folder: Path, queue_size: int = QUEUE_SIZE, picture_bytes: int = 1000) -> None:
        self.may_answer, self.running = threading.Event(), 0
        self.space = UploadSpace(Files(folder), max_bytes=10**9)
        self.desk = Desk(CONCURRENCY, queue_size, picture_bytes, self.space)
        self.app = Starlette(routes=[Route("/", self.desk.taking(self.answer), methods=["POST"])])
        self.app.auth = None  # as Gradio's application has it without a login

    def answer(self, picture: bytes, form: object) -> str:
        self.running += 1
        if picture != b"quick":
            assert self.may_answer.wait(PATIENCE)
        return "answered"

    def client(self, address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, client=(address, 1)), base_url="http://demo")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)
