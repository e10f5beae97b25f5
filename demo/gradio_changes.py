"""Every change to Gradio's own classes: what Gradio does, why this demo cannot have it, since which version, and where.

Checked against Gradio 6.31.0. At an upgrade read the linked lines again: a change may be needed no longer, or may need
another form. What Gradio lets a program set (arguments, environment variables, CSS) is not here but where it is set.
"""

import asyncio
import errno
import json
import logging
import math
import random
import re
import time
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import gradio as gr
import gradio.http_server
import gradio.mcp
import gradio.queueing
import gradio.route_utils
import gradio.routes
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBody
from gradio.mcp import GradioMCPServer
from gradio.queueing import Event, Queue
from gradio.route_utils import FileUploadProgress, GradioMultiPartParser
from gradio.server_messages import EventMessage, ProcessCompletedMessage
from gradio.state_holder import SessionState
from gradio.utils import LRUCache
from gradio_client import Client
from gradio_client.utils import is_file_obj, is_http_url_like, traverse
from jinja2 import BaseLoader, Environment
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.config import Config

from demo.connections import configure
from demo.decoding import Visitor, visitor
from demo.errors import BUSY
from demo.limits import INTERNAL_HEADER, INTERNAL_SECRET
from demo.metering import client_key
from demo.origins import OwnOrigins
from demo.sessions import size_of
from demo.settings import Settings
from demo.snippets import cli_snippets, code_snippets, example_upload
from demo.storage import DiskFullError, UploadSpace, in_own_folder, own_folder


logger = logging.getLogger(__name__)
CLOSED_SESSION_SECONDS = 60  # how long the state of a closed page is kept
FILE_ROUTE = "/gradio_api/file="  # in the address of an uploaded file, before its path
INPUT_REFUSED = (
    "Expected a picture that was uploaded to this demo (POST it to /gradio_api/upload), and the types that the API page "
    "lists. Paths of the server and web addresses are never read."
)


MAX_SESSIONS = 500  # whose state Gradio keeps; every API call counts as one
SESSION_BYTES = 100_000_000  # of all their states
MAX_HASH = 100  # characters by which a page names its session; Gradio's has 11
MAX_TEXT, MAX_NAME = 2_000, 255  # characters of a typed text, and of a file's name
UNREAD_SECONDS, MAX_UNREAD = 120.0, 200  # an answer that nobody fetches, and messages of one session
NAMING_ERRORS = (KeyError, TypeError, ValueError)
ERRORS_OF_FULL_DISKS = (errno.ENOSPC, errno.EDQUOT)


def install_gradio_changes(settings: Settings, space: UploadSpace, head: str) -> None:
    """Put the classes and functions below in place of Gradio's; call it before `Blocks.queue` and `launch`.

    Args:
        head: see `OwnHead`.

    Gradio looks them up by name and takes no other ones as arguments:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/blocks.py#L2970 (queue),
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L349 (MCP server) and line 394 (origins),
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L1639 (uploads) and
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/http_server.py#L150 (server).
    """
    gradio.queueing.Queue = FairQueue  # type: ignore[assignment, misc]  # mypy forbids to replace a class
    gradio.mcp.GradioMCPServer = JsonMCPServer  # type: ignore[misc]
    gradio.routes.CustomCORSMiddleware = partial(  # type: ignore[assignment, misc]
        OwnOrigins, allowed_origins=settings.allowed_origins
    )
    gradio.route_utils.GradioMultiPartParser = partial(  # type: ignore[assignment, misc]
        StrictMultiPartParser, most_files=settings.max_pictures, space=space
    )
    gradio.routes.file_upload_statuses = RecentUploads()
    gradio.route_utils.get_fn = known_function
    gradio.routes.generate_code_snippets = code_snippets
    gradio.routes.generate_cli_snippet = cli_snippets
    gradio.http_server.Server = partial(LimitedServer, settings)  # type: ignore[assignment, misc]
    templates = gradio.routes.templates.env
    if templates.loader:
        templates.loader = OwnHead(templates.loader, head)


class LimitedServer(gradio.http_server.Server):
    """Gradio passes hardly any of uvicorn's settings on:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/http_server.py#L137
    """

    def __init__(self, settings: Settings, config: Config, **options: Any):
        configure(config, settings)
        super().__init__(config, **options)


def known_function(blocks: gr.Blocks, api_name: str | None, body: PredictBody) -> BlockFunction:
    """A function by its number or name. Gradio's own raises what becomes status 500 with a traceback for those unknown:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L283

    Raises:
        HTTPException: 404 where there is none; 400 for a session's name that is too long to be kept.
    """
    if len(body.session_hash or "") > MAX_HASH:
        raise HTTPException(400, f"Expected a session_hash of at most {MAX_HASH} characters.")
    functions = blocks.fns
    if body.fn_index is not None:
        function = functions.get(body.fn_index)
    else:
        function = next((fn for fn in functions.values() if api_name and fn.api_name == api_name), None)
    if function is None:
        raise HTTPException(404, "There is no such function. GET /gradio_api/info lists them.")
    return function


async def refuse_unknown_names(request: Request, error: Exception) -> Response:
    """For FastAPI, as handler of `NAMING_ERRORS`, which Gradio raises for what a client of its second API names wrongly:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L1618
    """
    if not request.url.path.startswith("/gradio_api/call/v2/"):
        raise error
    detail = "There is no such function, or it takes no arguments of these names. GET /gradio_api/info lists them."
    return JSONResponse({"detail": detail}, 404)


class RecentUploads(FileUploadProgress):
    """Since 4.0 Gradio keeps the number of every upload whose progress nobody asks for:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L706
    """

    def track(self, upload_id: str) -> None:
        super().track(upload_id)
        for kept in (self._statuses, self._signals):
            while len(kept) > MAX_SESSIONS:
                del kept[next(iter(kept))]  # the oldest


class StrictMultiPartParser(GradioMultiPartParser):
    """The parser of uploads. Gradio's, since 4.0, takes 1,000 files and text fields of any length, and leaves half files
    behind when the visitor leaves or the disk is full:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L908
    """

    def __init__(self, headers: Any, stream: Any, *, most_files: int, space: UploadSpace, **options: Any):
        super().__init__(headers, stream, **options | {"max_files": most_files, "max_fields": 5})
        self._space, self._length = space, int(headers.get("content-length", 0))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if self._current_part.file is None and len(self._current_part.data) > MAX_TEXT:
            raise MultiPartException("Expected picture files; a text field is too long.")

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None and len(file.filename or "") > MAX_NAME:
            raise MultiPartException(f"Expected names of files of at most {MAX_NAME} characters. Rename the file.")

    async def parse(self) -> FormData:
        """Raises `HTTPException` 507 where the disk is full."""
        try:
            await anyio.to_thread.run_sync(self._space.reserve, self._length)
        except DiskFullError as error:
            raise HTTPException(507, str(error)) from None
        try:
            return await super().parse()
        except OSError as error:
            self._delete_half_files()
            if error.errno in ERRORS_OF_FULL_DISKS:
                raise HTTPException(507, "The demo's disk is full. Try again in some minutes.") from None
            raise
        except BaseException:  # the visitor has left, for instance
            self._delete_half_files()
            raise
        finally:
            self._space.release(self._length)

    def _delete_half_files(self) -> None:
        for file in self._files_to_close_on_error:
            with suppress(OSError):  # what could not be written
                file.close()
            with suppress(OSError):
                Path(file.name).unlink()


class OwnHead(BaseLoader):
    """Gradio's page with the demo's link preview in place of Gradio's own, which names Gradio:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/js/app/index.html#L15.

    What `launch(head=...)` takes is added by the browser, after its JavaScript runs; whoever makes link previews runs none.

    Args:
        head: HTML, and a Jinja template with Gradio's `config`, whose `root` is the address at which the visitor sees the page.
    """

    def __init__(self, gradios: BaseLoader, head: str):
        self.gradios, self.head = gradios, head

    def get_source(self, environment: Environment, template: str) -> tuple:
        source, filename, is_current = self.gradios.get_source(environment, template)
        without = re.sub(r'<meta\s+(property="og:|name="twitter:)[^>]*>', "", source)
        return without.replace("</head>", f"{self.head}</head>", 1), filename, is_current


def is_logged_in(request: Request) -> bool:
    """Whether a request to a route beside Gradio's comes from somebody who may ask; everybody may without DEMO_AUTH.

    Gradio's check belongs to its own routes: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L425
    """
    app = request.app
    if app.auth is None:
        return True
    cookies = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(cookie) in app.tokens for cookie in cookies)


class StrictBlocks(gr.Blocks):
    """Blocks that accept uploaded files only, and that keep no visitor's pictures and answers.

    - Since 5.0 Gradio downloads a web address that is given as a file, of any size, and asks a public name server for its
      host: https://github.com/gradio-app/gradio/pull/9383. `preprocess_data` refuses all of them.
    - Since 5.5 Gradio checks only files that carry the mark `meta`, for components with a data model:
      https://github.com/gradio-app/gradio/pull/9898. `_uploaded` marks every file.
    - An exception that is not a `gr.Error` reaches API clients as `error: null`, and its traceback with the visitor's input
      reaches the log: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/utils.py#L1889.
    - Since 5.23 each session keeps a copy of its last inputs and outputs for deep links:
      https://github.com/gradio-app/gradio/pull/10834. This page has none, and links could lead to somebody else's answer:
      https://github.com/gradio-app/gradio/issues/11201.
    - Since 4.25 the state of a closed page is kept for an hour: https://github.com/gradio-app/gradio/pull/7829. See
      `forget_sessions` for others.
    - Functions that need no model would wait for a thread behind those that do, so they have threads of their own.
    - A function does not learn that its visitor has left; `demo.decoding.visitor` tells it.
    """

    async def process_api(
        self, block_fn: BlockFunction | int, inputs: list, *args: Any, **options: Any
    ) -> dict[str, Any]:
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        _limiter.set(self._model_threads if function.queue else self._small_threads)
        visitor.set(self._visitor(options.get("request"), options.get("event_id")))
        return await super().process_api(function, inputs, *args, **options)

    def _visitor(self, request: gr.Request | list[gr.Request] | None, event_id: str | None) -> Visitor:
        first = request[0] if isinstance(request, list) else request
        client = getattr(getattr(first, "request", None), "client", None)
        event = self._queue.event_ids_to_events.get(event_id or "")
        return Visitor(client_key(client.host) if client else "", lambda: event is not None and not event.alive)

    @property  # type: ignore[override]
    def limiter(self) -> anyio.CapacityLimiter | None:
        return _limiter.get()

    @limiter.setter
    def limiter(self, ignored: object) -> None:
        """https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/blocks.py#L2809"""
        self._model_threads, self._small_threads = (anyio.CapacityLimiter(count) for count in (40, 4))

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list, state: SessionState | None, *args: Any, **kwargs: Any
    ) -> list:
        try:
            _check_number(block_fn, inputs)
            checked = traverse(inputs, _uploaded, is_file_obj)
            if any(isinstance(value, str) and len(value) > MAX_TEXT for value in checked):
                raise ValueError("a text that nobody types")
            return await super().preprocess_data(block_fn, checked, state, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # the traceback in the log would hold the visitor's input
            raise
        except Exception as error:
            logger.warning("input refused: %s", type(error).__name__)  # its text may hold the visitor's input
            raise gr.Error(INPUT_REFUSED, title="This cannot be used", print_exception=False) from None
        finally:
            self._forget(state)

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list | dict, state: SessionState | None
    ) -> list:
        try:
            return await super().postprocess_data(block_fn, predictions, state)
        except OSError as error:
            if error.errno not in ERRORS_OF_FULL_DISKS:
                raise
            raise gr.Error("The demo's disk is full. Try again in some minutes.", print_exception=False) from None
        finally:
            self._forget(state)

    def _forget(self, state: SessionState | None) -> None:
        """https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/state_holder.py#L70"""
        if state is not None:
            state.config_values.clear()
            state.STATE_TTL_WHEN_CLOSED = CLOSED_SESSION_SECONDS
            # `gr.update` replaces a component of the session by one that holds the new values, such as a description.
            state.blocks_config.blocks.update(self.default_config.blocks)
            _weights[state] = time.monotonic(), size_of(state.state_data)
            forget_sessions(self)


def forget_sessions(blocks: gr.Blocks, keep_seconds: float = math.inf) -> None:
    """Drop the states that were used longest ago, until all together are small enough, and those older than `keep_seconds`.

    Gradio counts states and does not weigh them, and tells their age by a clock that can be set back:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/state_holder.py#L39
    """
    sessions = blocks.app.state_holder.session_data if hasattr(blocks, "app") else {}  # none before the start
    known = [(name, *_weights.get(state, (math.inf, 0))) for name, state in list(sessions.items())]  # inf: in first use
    total, oldest = sum(size for _, _, size in known), time.monotonic() - keep_seconds
    for name, used, size in sorted(known, key=lambda session: session[1]):
        if used > oldest and total <= SESSION_BYTES:
            return
        sessions.pop(name, None)
        total -= size


def _check_number(block_fn: BlockFunction, inputs: list) -> None:
    """Gradio says of an argument that is missing only that the index is out of range. Raises gr.Error."""
    names = [str(component.label) for component in block_fn.inputs if isinstance(component, gr.components.Component)]
    if len(inputs) < len(block_fn.inputs) == len(names):
        missing = ", ".join(names[len(inputs) :])
        text = f"Expected the arguments {', '.join(names)}; {missing} is missing. Send all of them, in this order."
        raise gr.Error(text, title="This cannot be used", print_exception=False)


def _uploaded(file: dict) -> dict:
    """The file with the mark that makes Gradio check that it was uploaded, and with its path in this process's folder.

    MCP clients name an upload by its address on this server: only the path in it counts. A page that was open before a
    restart names files in the folder of the earlier process. They are looked up in the present folder, so that the visitor
    is told that they were deleted.

    An address that ends in /examples/NAME means the demo's own example picture of that name; see `demo.snippets`.

    Raises:
        ValueError: the file is another web address, or its name is too long to be kept.
    """
    path = file["path"]
    if any(len(str(file.get(text) or "")) > most for text, most in (("orig_name", MAX_NAME), ("path", MAX_TEXT))):
        raise ValueError("a name that is too long")
    if is_http_url_like(path):
        example = example_upload(path, own_folder())
        if example:
            return {"path": example, "meta": {"_type": "gradio.FileData"}}
        _, route, path = path.partition(FILE_ROUTE)
        if not route or is_http_url_like(path):
            raise ValueError("a web address")
    return {**file, "path": in_own_folder(path), "meta": {"_type": "gradio.FileData"}}


_limiter: ContextVar[anyio.CapacityLimiter | None] = ContextVar("limiter", default=None)
# state of a session -> when it was used last, by the monotonic clock, and its bytes
_weights: "WeakKeyDictionary[SessionState, tuple[float, int]]" = WeakKeyDictionary()


class FairQueue(Queue):
    """A queue in which at most `max_size` pictures wait, and as many webcams as may run at the same time.

    - Since 4.11 Gradio has one queue for each concurrency id, but `max_size` counts all of them together:
      https://github.com/gradio-app/gradio/pull/6814 and
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/queueing.py#L290. Since 5.0 a webcam holds its place for
      up to its time limit (https://github.com/gradio-app/gradio/pull/8941), so waiting webcams would keep every picture out.
    - Gradio asks in the order of arrival, so that one client could keep all others waiting. Here it takes at most half of the
      places to wait and all but one of those to run, and the next to run is of the client for whom fewest run.
    - Gradio keeps messages that nobody fetches, for up to 2,000 sessions.
    """

    def __init__(self, *, max_size: int | None, **options: Any):
        super().__init__(max_size=None, **options)
        self.max_pictures = max_size
        self.pending_messages_per_session = LRUCache(MAX_SESSIONS)

    async def push(self, body: Any, request: Any, username: str | None) -> tuple:
        fn = self.blocks.fns.get(body.fn_index)
        is_live = fn is not None and fn.connection == "stream"
        limit = fn.concurrency_limit if fn and is_live else self.max_pictures
        queues = self.event_queue_per_concurrency_id.values()
        waiting = [_client(event) for queue in queues for event in queue.queue if event.streaming == is_live]
        if isinstance(limit, int):
            own = waiting.count(_client(request))
            if len(waiting) >= limit or own >= max(1, limit // 2):
                return False, BUSY, "queue_full"  # an answer with status 503 and this `detail`
        return await super().push(body, request, username)

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        queues = [
            queue
            for queue in self.event_queue_per_concurrency_id.values()
            if queue.queue and (queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit)
        ]
        random.shuffle(queues)
        for queue in queues:
            jobs = [event for job in self.active_jobs if job for event in job]
            running = Counter(_client(event) for event in jobs if event.concurrency_id == queue.concurrency_id)
            most = max(1, queue.concurrency_limit - 1) if queue.concurrency_limit else len(self.active_jobs)
            free = [event for event in queue.queue if running[_client(event)] < most]
            if free:
                event = min(free, key=lambda event: running[_client(event)])
                queue.queue.remove(event)
                return [event], False, queue.concurrency_id
        return None

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        messages = self.pending_messages_per_session.get(event.session_hash)
        if messages is None or messages.qsize() > MAX_UNREAD:  # nobody reads
            event.alive, event.closed = False, True
            return
        super().send_message(event, event_message)
        if isinstance(event_message, ProcessCompletedMessage):
            asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._drop_unread, event.session_hash, event._id)

    def _drop_unread(self, session_hash: str, event_id: str) -> None:
        if event_id in self.pending_event_ids_session.get(session_hash, ()):  # fetching it removes it
            self.pending_event_ids_session.pop(session_hash, None)
            self.pending_messages_per_session.pop(session_hash, None)


def _client(asked: Any) -> str:
    """The key of the client of a request, or of an event's; kept, because a waiting queue asks 1,000 times a second."""
    request = asked.request if isinstance(asked, Event) else asked
    if not hasattr(request.state, "client_key"):
        request.state.client_key = client_key(request.client.host) if request.client else ""
    return request.state.client_key


class JsonMCPServer(GradioMCPServer):
    """An MCP server whose answers are JSON, and whose own requests are not counted as a client's.

    Since 5.28, the first version with MCP, Gradio answers with `str(output)`, which writes `None` and 'single quotes':
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L1578. And one HTTP client uploads and asks for
    all MCP clients: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L592.
    """

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]

    def _get_or_create_client(self) -> Client:
        if self.local_url is None:  # before the start is over Gradio would ask whatever host the caller names
            raise ValueError("The demo is starting. Try again in a moment.")
        client = super()._get_or_create_client()
        client.headers[INTERNAL_HEADER] = INTERNAL_SECRET
        return client
