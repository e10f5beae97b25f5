"""The live camera whose model runs in the visitor's browser: its part of the page, and the routes of its files.

GET /device/models/NUMBER.json    the manifest of a served model, or why browsers cannot run it
GET /device/files/HASH/NAME       runtime and networks, kept by browsers: the address changes with the content
GET /device/code/HASH/PATH        modules and styles, kept likewise
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread
import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from demo.access import is_logged_in
from demo.device_files import (
    FACE_DETECTOR,
    MEDIA_TYPES,
    RUNTIMES,
    WebFile,
    code_files,
    code_version,
    manifest,
    network_file,
)
from demo.serving import ServedModel
from model.errors import AgeGenderError


logger = logging.getLogger(__name__)
KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
MOUNT = """
const at = path => new URL(path, document.baseURI)
const code = name => at(`device/code/VERSION/device/${name}`)
const style = Object.assign(document.createElement('link'), {rel: 'stylesheet', href: code('device.css')})
document.head.append(style)
const shared = import(at('web/page.js')).then(page => page.options)
Promise.all([import(code('live.js')), shared]).then(([{mountLive}, options]) => mountLive(element.querySelector('.device-root'), {
  options,
  models: NAMES.map((name, index) => ({name, manifest: at(`device/models/${index}.json`)})),
  texts: window.gradio_config.i18n_translations,
  onWhere: where => trigger(where === 'server' ? 'select' : 'clear'),
}))
"""
HIDE, SHOW = ({"__type__": "update", "visible": visible} for visible in (False, True))


def live_camera(models: Sequence[ServedModel]) -> gr.HTML:
    """The component, with a switch between this device and the server."""
    names = json.dumps([served.name for served in models])
    return gr.HTML(
        html_template='<div class="device-root"></div>',
        js_on_load=MOUNT.replace("VERSION", code_version()).replace("NAMES", names),
        apply_default_css=False,
        elem_id="live",
    )


def show_on_server(live: gr.HTML, parts: list[gr.blocks.Block]) -> None:
    """Show `parts` while the visitor lets the server answer. The camera among them is off while it is hidden.

    The browser does it alone: nothing is sent, and the switch works without a network.
    """
    for event, update in ((live.select, SHOW), (live.clear, HIDE)):
        event(None, None, parts, js=f"() => {json.dumps([update] * len(parts))}", api_visibility="private")


def device_routes(models: Sequence[ServedModel]) -> list[BaseRoute]:
    """Raises nothing: a model that browsers cannot run answers so, and the log says it at the first question."""
    networks: dict[int, WebFile] = {}
    manifests: dict[int, bytes | None] = {}  # None: browsers cannot run the model
    making = anyio.Lock()

    def make_manifest(index: int) -> bytes | None:
        """Hashes all weights."""
        served = models[index]
        try:
            network = network_file(served.folder)
            described = manifest(served.name, served.folder, network, lambda file: f"../files/{file.path}")
        except AgeGenderError as error:
            # the operator reads what to run; a visitor cannot run it
            logger.warning("%s: %s", served.name, error)
            return None
        networks[index] = network
        return json.dumps(described).encode()

    async def send_manifest(request: Request) -> Response:
        index = request.path_params["index"]
        if index >= len(models):
            return JSONResponse({"detail": "There is no such model here."}, 404)
        if index not in manifests:
            async with making:  # once, whoever else asks meanwhile
                if index not in manifests:
                    manifests[index] = await anyio.to_thread.run_sync(make_manifest, index)
        content = manifests[index]
        if content is None:
            return JSONResponse({"detail": "This model is not prepared for browsers."}, 404)
        return Response(content, media_type="application/json", headers={"Cache-Control": "no-cache"})

    def read_file(path: str, accepted: str) -> Response:
        known = {file.path: file for file in (*RUNTIMES.values(), FACE_DETECTOR, *tuple(networks.values()))}
        return _content(known[path], accepted) if path in known else Response(status_code=404)

    async def send_file(request: Request) -> Response:
        """In a thread, since a file's address holds its hash."""
        accepted = request.headers.get("accept-encoding", "")
        return await anyio.to_thread.run_sync(read_file, request.path_params["path"], accepted)

    async def send_code(request: Request) -> Response:
        path = request.path_params["path"]
        content = code_files().get(path)
        if content is None or request.path_params["version"] != code_version():
            return Response(status_code=404)
        return Response(content, media_type=MEDIA_TYPES["." + path.rpartition(".")[2]], headers=KEEP)

    def guarded(endpoint: Any) -> Any:
        async def answer(request: Request) -> Response:
            return await endpoint(request) if is_logged_in(request) else JSONResponse({"detail": "Log in first."}, 401)

        return answer

    return [
        Route("/device/models/{index:int}.json", guarded(send_manifest)),
        Route("/device/files/{path:path}", guarded(send_file)),
        Route("/device/code/{version}/{path:path}", guarded(send_code)),
    ]


def _content(file: WebFile, accepted: str) -> Response:
    """Compressed once, and not at each request."""
    headers = KEEP | {"Vary": "Accept-Encoding"}
    if "gzip" in accepted:
        return Response(file.gzipped, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.read(), media_type=file.media_type, headers=headers)
