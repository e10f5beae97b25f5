"""The live camera whose model runs in the visitor's browser: its part of the page, and the routes of its files.

GET /device/models/NUMBER.json    the manifest of a served model, or why browsers cannot run it
GET /device/files/HASH/NAME       runtime and networks, kept by browsers: the address changes with the content
GET /device/code/HASH/PATH        modules and styles, kept likewise
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from demo.device_files import (
    MEDIA_TYPES,
    NotOnDevice,
    WebFile,
    code_files,
    code_version,
    face_detector_file,
    manifest,
    network_file,
    runtime_file,
)
from demo.logins import is_logged_in
from demo.serving import ServedModel


logger = logging.getLogger(__name__)
KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
MOUNT = """
const at = path => new URL(path, document.baseURI)
const code = name => at(`device/code/VERSION/device/${name}`)
const style = Object.assign(document.createElement('link'), {rel: 'stylesheet', href: code('device.css')})
document.head.append(style)
import(code('live.js')).then(({mountLive}) => mountLive(element.querySelector('.device-root'), {
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
        elem_id="live",
    )


def show_on_server(live: gr.HTML, parts: list[gr.blocks.Block]) -> None:
    """Show `parts` while the visitor lets the server answer. The camera among them is off while it is hidden.

    The browser does it alone: nothing is sent, and the switch works without a network.
    """
    for event, update in ((live.select, SHOW), (live.clear, HIDE)):
        event(None, None, parts, js=f"() => {json.dumps([update] * len(parts))}", api_visibility="private")


def device_routes(models: Sequence[ServedModel]) -> list[BaseRoute]:
    """Raises nothing: a model that browsers cannot run answers so, and the log says it at the start."""
    networks: dict[int, WebFile] = {}

    def network(index: int) -> WebFile:
        if index not in networks:
            networks[index] = network_file(models[index].folder)
        return networks[index]

    async def send_manifest(request: Request) -> Response:
        index = request.path_params["index"]
        if index >= len(models):
            return JSONResponse({"detail": "There is no such model here."}, 404)
        try:
            file = await anyio.to_thread.run_sync(network, index)
        except NotOnDevice as error:
            # the operator has read what to run; a visitor cannot run it
            logger.warning("%s: %s", models[index].name, error)
            return JSONResponse({"detail": "This model is not prepared for browsers."}, 404)
        served = models[index]
        described = manifest(served.name, served.folder, file, lambda file: f"../files/{file.path}")
        return JSONResponse(described, headers={"Cache-Control": "no-cache"})

    async def send_file(request: Request) -> Response:
        known = {file.path: file for file in (runtime_file(), face_detector_file(), *networks.values())}
        file = known.get(request.path_params["path"])
        if file is None:
            return Response(status_code=404)
        return await anyio.to_thread.run_sync(_content, file, request.headers.get("accept-encoding", ""))

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
