"""Routes beside Gradio's: a picture and its answer in one request, and the page's files.

POST /predict          for programs: the faces, as the API's endpoint of that name answers
POST /page/answer      for the page: the faces with the probability of every year
GET  /web, /examples   the page's files
"""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from threading import Event
from typing import Any

import anyio
import anyio.to_thread
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from demo.access import is_logged_in
from demo.device_files import EXAMPLES, WEB
from demo.fair_use import BUSY, TURNS, TooOftenError, Visitor, client_key, kind_of, most_running, most_waiting, visitor
from demo.handlers import Handlers
from demo.settings import Settings
from demo.storage import UploadSpace
from demo.uploads import PictureParser, read_bytes, room_for
from model.errors import AgeGenderError


FORM = "Send a multipart form: picture=@photo.jpg and, if you like, detect=true or false, age_ranges and model."
STATUS_OF = {"busy": 503, "too_often": 429}  # the others are 400
MAX_FIELDS, MAX_FIELD_BYTES = 6, 2_000
WATCH_SECONDS = 0.2  # between two looks at whether the visitor is still there


def page_routes(handlers: Handlers, settings: Settings, space: UploadSpace) -> list[BaseRoute]:
    desk = Desk(settings.concurrency, settings.queue_size, settings.max_picture_mb * 1_000_000, space)

    def predict(picture: bytes, form: FormData) -> list[dict]:
        detect, age_ranges, model = _flag(form, "detect", True), _text(form, "age_ranges"), _text(form, "model")
        return handlers.predict(read_bytes(picture), detect, age_ranges, model)

    def show(picture: bytes, form: FormData) -> dict:
        return handlers.show(
            picture,
            _flag(form, "detect", True),
            _text(form, "model"),
            _flag(form, "saliency", False),
            _flag(form, "preview", False),
        )

    return [
        Route("/predict", desk.taking(predict), methods=["POST"]),
        Route("/page/answer", desk.taking(show), methods=["POST"]),
        Mount("/web", StaticFiles(directory=WEB)),
        Mount("/examples", StaticFiles(directory=EXAMPLES)),
    ]


class Desk:
    """Takes pictures in, lets `queue_size` of them wait, and answers `concurrency` at a time.

    What one client may take of both, and who comes after others, is said in `demo.fair_use`. A place is taken from before the
    body is read until the answer is there or the visitor has left.

    Large pictures wait on the disk, in `space`, and are read into memory when it is their turn.
    """

    def __init__(self, concurrency: int, queue_size: int, picture_bytes: int, space: UploadSpace):
        self.picture_bytes, self._space = picture_bytes, space
        self._places, self._running_of_one = concurrency + queue_size, most_running(concurrency)
        self._places_of_one = self._running_of_one + most_waiting(queue_size)
        self._taken: Counter[str] = Counter()  # places, by the client's key
        self._turns: dict[str, anyio.CapacityLimiter] = {}  # of the clients that have taken places
        self._running, self._threads = anyio.CapacityLimiter(concurrency), anyio.CapacityLimiter(concurrency)

    def taking(self, answer: Callable[[bytes, FormData], Any]) -> Callable:
        """An endpoint that answers a form with a picture by `answer`."""

        async def endpoint(request: Request) -> Response:
            if not is_logged_in(request):
                return _refusal(401, "login", "Log in first.")
            key = client_key(request.client.host) if request.client else ""
            if self._taken.total() >= self._places or self._taken[key] >= self._places_of_one:
                return _refusal(503, "busy", BUSY)
            self._taken[key] += 1
            self._turns.setdefault(key, anyio.CapacityLimiter(self._running_of_one))
            try:
                return await self._answer(request, key, answer)
            finally:
                self._taken[key] -= 1
                if not self._taken[key]:
                    del self._taken[key], self._turns[key]

        return endpoint

    async def _answer(self, request: Request, key: str, answer: Callable[[bytes, FormData], Any]) -> Response:
        try:
            async with self._form(request) as form:
                upload = form.get("picture")
                if not isinstance(upload, UploadFile):
                    return _refusal(400, "form", f"Expected the picture as a file; picture is missing. {FORM}")
                if (upload.size or 0) > self.picture_bytes:
                    text = f"This picture is too large: at most {self.picture_bytes / 1e6:.0f} MB."
                    return _refusal(413, "too_large", text)
                found = await self._in_turn(request, key, answer, upload, form)
        except MultiPartException as error:  # the form is damaged or has too many parts
            return _refusal(400, "form", f"The form cannot be read: {error.message} {FORM}")
        except HTTPException as error:
            return _refusal(error.status_code, "disk_full", error.detail)
        except AgeGenderError as error:
            kind = kind_of(error)
            headers = {"Retry-After": str(error.wait_seconds)} if isinstance(error, TooOftenError) else None
            return _refusal(STATUS_OF.get(kind, 400), kind, str(error), headers)
        return Response(json.dumps(found), media_type="application/json")

    @asynccontextmanager
    async def _form(self, request: Request) -> AsyncIterator[FormData]:
        """What a form holds, until the block ends; nothing of a body of another kind, which is not read.

        Raises:
            MultiPartException: it cannot be read. HTTPException: 507, the disk is full.
        """
        kind, _ = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data":
            yield FormData()
            return
        length = int(request.headers.get("content-length", 0))
        async with AsyncExitStack() as stack:
            if length > PictureParser.spool_max_size:  # the others stay in memory
                await stack.enter_async_context(room_for(length, self._space))
            options = {"max_files": 1, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
            stream = await stack.enter_async_context(aclosing(request.stream()))
            form = await PictureParser(request.headers, stream, folder=self._space.folder, **options).parse()
            stack.push_async_callback(form.close)
            yield form

    async def _in_turn(
        self, request: Request, key: str, answer: Callable[[bytes, FormData], Any], upload: UploadFile, form: FormData
    ) -> Any:
        """Raises what `answer` raises, and `ClientDisconnect` where the visitor has left."""
        gone, found, refused = Event(), None, None

        async def watch() -> None:
            while not await request.is_disconnected():
                await anyio.sleep(WATCH_SECONDS)
            gone.set()  # for a thread that runs
            tasks.cancel_scope.cancel()  # for one that waits

        visitor.set(Visitor(key, gone.is_set))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            # Only what may run of one client waits for a place among all: the next to run is nearly always another's.
            async with self._turns[key]:
                asked = time.monotonic()
                while not TURNS.may_begin(key):
                    await anyio.sleep(WATCH_SECONDS)
                async with self._running:
                    TURNS.note_wait(key, time.monotonic() - asked)
                    try:
                        picture = await upload.read()
                        found = await anyio.to_thread.run_sync(answer, picture, form, limiter=self._threads)
                    except AgeGenderError as error:  # not in a group of exceptions
                        refused = error
            tasks.cancel_scope.cancel()
        if gone.is_set():
            raise ClientDisconnect
        if refused is not None:
            raise refused
        return found


def _flag(form: FormData, name: str, default: bool) -> bool:
    text = _text(form, name)
    if text not in (None, "true", "false"):
        raise AgeGenderError(f"Expected {name} as true or false; got {text!r}.")
    return default if text is None else text == "true"


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    if value is not None and not isinstance(value, str):
        raise AgeGenderError(f"Expected {name} as text; a file came.")
    return value or None


def _refusal(status: int, kind: str, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """`kind` is what the page translates; programs read `detail`, as in Gradio's own refusals."""
    return JSONResponse({"detail": text, "kind": kind}, status, headers)
