"""The one list of all changes to Gradio's own classes: what takes the place of what, why, since which version, and where.

Checked against Gradio 6.31.0. At an upgrade read the linked lines again, here and in the files that `install_gradio_changes`
names: a change may be needed no longer, or may need another form. What Gradio lets a program set (arguments, environment
variables, CSS) is not here but where it is set.
"""

import logging
import re
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import gradio as gr
import gradio.http_server
import gradio.mcp
import gradio.queueing
import gradio.route_utils
import gradio.routes
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBody
from gradio.state_holder import SessionState
from gradio_client.utils import is_file_obj, is_http_url_like, traverse
from jinja2 import BaseLoader, Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from demo.access import OwnOrigins
from demo.api import JsonMCPServer, cli_snippets, code_snippets, example_upload, refusal
from demo.fair_use import Visitor, client_key, visitor
from demo.limits import LimitedServer
from demo.memory import forget_sessions, weigh_session
from demo.queue import FairQueue
from demo.settings import Settings
from demo.storage import DISK_FULL, ERRORS_OF_FULL_DISKS, UploadSpace, in_own_folder, own_folder
from demo.uploads import MAX_NAME, MAX_TEXT, RecentUploads, StrictMultiPartParser


logger = logging.getLogger(__name__)
CLOSED_SESSION_SECONDS = 60  # how long the state of a closed page is kept
FILE_ROUTE = "/gradio_api/file="  # in the address of an uploaded file, before its path
INPUT_REFUSED = (
    "Expected a picture that was uploaded to this demo (POST it to /gradio_api/upload), and the types that the API page "
    "lists. Paths of the server and web addresses are never read."
)
MAX_HASH = 100  # characters by which a page names its session; Gradio's has 11
NAMING_ERRORS = (KeyError, TypeError, ValueError)
MODEL_THREADS, SMALL_THREADS = 40, 4  # for functions that need the model, as many as Gradio has; and for the others
_limiter: ContextVar[anyio.CapacityLimiter | None] = ContextVar("limiter", default=None)  # of the function being called


def install_gradio_changes(settings: Settings, space: UploadSpace, head: str) -> None:
    """Put our classes and functions in place of Gradio's; call it before `Blocks.queue` and `launch`.

    Gradio looks them up by name, at the linked lines, and takes no other ones as arguments. Each says what Gradio does, and
    since when:

    - queue, `demo.queue.FairQueue`: one client never takes all places.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/blocks.py#L2970
    - MCP server, `demo.api.JsonMCPServer`: answers in JSON.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L349
    - origins, `demo.access.OwnOrigins`: pages of other sites may not ask.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L394
    - parser of uploads, `demo.uploads.StrictMultiPartParser`: limits, and no half files.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L1639
    - progress of uploads, `demo.uploads.RecentUploads`: only that of the newest is kept.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L706
    - server, `demo.limits.LimitedServer`: limits of connections.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/http_server.py#L150
    - functions by name, `known_function`: status 404 for those unknown.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L283
    - snippets of the API page, `demo.api`: they answer as they are pasted.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L961
    - template of the page, `OwnHead`: the demo's link preview.
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/js/app/index.html#L15

    Four changes need no place of Gradio's: the page is built of `StrictBlocks`; FastAPI gets `refuse_unknown_names`; and
    `demo.access.is_logged_in` and `demo.memory.forget_sessions` do for the demo what Gradio does only for its own routes,
    and by a count alone.

    Args:
        head: see `OwnHead`.
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
      `demo.memory.forget_sessions` for others.
    - Functions that need no model would wait for a thread behind those that do, so they have threads of their own.
    - A function does not learn that its visitor has left; `demo.fair_use.visitor` tells it.
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
        self._model_threads, self._small_threads = map(anyio.CapacityLimiter, (MODEL_THREADS, SMALL_THREADS))

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
            raise refusal(INPUT_REFUSED) from None
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
            raise gr.Error(DISK_FULL, print_exception=False) from None
        finally:
            self._forget(state)

    def _forget(self, state: SessionState | None) -> None:
        """https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/state_holder.py#L70"""
        if state is not None:
            state.config_values.clear()
            state.STATE_TTL_WHEN_CLOSED = CLOSED_SESSION_SECONDS
            # `gr.update` replaces a component of the session by one that holds the new values, such as a description.
            state.blocks_config.blocks.update(self.default_config.blocks)
            weigh_session(state)
            forget_sessions(self)


def _check_number(block_fn: BlockFunction, inputs: list) -> None:
    """Gradio says of an argument that is missing only that the index is out of range. Raises gr.Error."""
    names = [str(component.label) for component in block_fn.inputs if isinstance(component, gr.components.Component)]
    if len(inputs) < len(block_fn.inputs) == len(names):
        missing = ", ".join(names[len(inputs) :])
        text = f"Expected the arguments {', '.join(names)}; {missing} is missing. Send all of them, in this order."
        raise refusal(text)


def _uploaded(file: dict) -> dict:
    """The file with the mark that makes Gradio check that it was uploaded, and with its path in this process's folder.

    MCP clients name an upload by its address on this server: only the path in it counts. A page that was open before a
    restart names files in the folder of the earlier process. They are looked up in the present folder, so that the visitor
    is told that they were deleted.

    An address that ends in /examples/NAME means the demo's own example picture of that name; see `demo.api`.

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
