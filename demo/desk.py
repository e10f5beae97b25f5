"""Routes beside Gradio's: a picture and its answer in one request, and the page's files.

POST /predict          for programs: the faces, as the API's endpoint of that name answers
POST /page/answer      for the page: the faces with the probability of every year
GET  /web, /examples   the page's files
"""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import anyio.to_thread
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from demo.decoding import BUSY, Visitor, visitor
from demo.gradio_changes import is_logged_in
from demo.handlers import Handlers
from demo.metering import client_key
from demo.settings import Settings
from model.errors import AgeGenderError, PictureError


HERE = Path(__file__).resolve().parent
WEB, EXAMPLES = HERE / "web", HERE.parent / "examples"
FORM = "Send a multipart form: picture=@photo.jpg and, if you like, detect=true or false, age_ranges and model."
MAX_FIELDS, MAX_FIELD_BYTES = 6, 2_000
WATCH_SECONDS = 0.2  # between two looks at whether the visitor is still there


def page_routes(handlers: Handlers, settings: Settings) -> list[BaseRoute]:
    desk = Desk(settings.concurrency, settings.queue_size, settings.max_picture_mb * 1_000_000)

    def predict(picture: bytes, form: FormData) -> list[dict]:
        return handlers.predict(picture, _flag(form, "detect", True), _text(form, "age_ranges"), _text(form, "model"))

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
    """Takes pictures in, lets `queue_size` of them wait, and answers `concurrency` at a time, in the order of their coming."""

    def __init__(self, concurrency: int, queue_size: int, picture_bytes: int):
        self.places, self.taken = concurrency + queue_size, 0
        self.picture_bytes = picture_bytes
        self._running, self._threads = anyio.CapacityLimiter(concurrency), anyio.CapacityLimiter(concurrency)

    def taking(self, answer: Callable[[bytes, FormData], Any]) -> Callable:
        """An endpoint that answers a form with a picture by `answer`."""

        async def endpoint(request: Request) -> Response:
            if not is_logged_in(request):
                return _refusal(401, "login", "Log in first.")
            if self.taken >= self.places:
                return _refusal(503, "busy", BUSY)
            self.taken += 1
            try:
                return await self._answer(request, answer)
            finally:
                self.taken -= 1

        return endpoint

    async def _answer(self, request: Request, answer: Callable[[bytes, FormData], Any]) -> Response:
        try:
            async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
                upload = form.get("picture")
                if not isinstance(upload, UploadFile):
                    return _refusal(400, "form", f"Expected the picture as a file; picture is missing. {FORM}")
                if (upload.size or 0) > self.picture_bytes:
                    text = f"This picture is too large: at most {self.picture_bytes / 1e6:.0f} MB."
                    return _refusal(413, "too_large", text)
                found = await self._in_turn(request, answer, await upload.read(), form)
        except HTTPException as error:  # Starlette's, for a form that is damaged or has too many parts
            return _refusal(400, "form", f"The form cannot be read: {error.detail} {FORM}")
        except PictureError as error:
            is_busy = str(error) == BUSY  # no place to decode it
            return _refusal(503, "busy", BUSY) if is_busy else _refusal(400, "picture", str(error))
        except AgeGenderError as error:
            return _refusal(400, "option", str(error))
        return Response(json.dumps(found), media_type="application/json")

    async def _in_turn(
        self, request: Request, answer: Callable[[bytes, FormData], Any], picture: bytes, form: FormData
    ) -> Any:
        """Raises what `answer` raises."""
        gone = Event()

        async def watch() -> None:
            while not await request.is_disconnected():
                await anyio.sleep(WATCH_SECONDS)
            gone.set()

        host = request.client.host if request.client else ""
        visitor.set(Visitor(client_key(host), gone.is_set))
        async with self._running, anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            try:
                return await anyio.to_thread.run_sync(answer, picture, form, limiter=self._threads)
            except AgeGenderError as error:  # not in a group of exceptions
                refused = error
            finally:
                tasks.cancel_scope.cancel()
        raise refused


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


def _refusal(status: int, kind: str, text: str) -> JSONResponse:
    """`kind` is what the page translates; programs read `detail`, as in Gradio's own refusals."""
    return JSONResponse({"detail": text, "kind": kind}, status)
