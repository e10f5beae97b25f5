"""The Hub's HTTP API over `hub_storage`: the endpoints that the real `huggingface_hub` client calls."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.hub_access import Hub
from tests.support.hub_content import ContentEndpoints
from tests.support.hub_repositories import RepositoryEndpoints
from tests.support.hub_storage import HubError


def build_app(hub: Hub) -> Starlette:
    repositories, content = RepositoryEndpoints(hub), ContentEndpoints(hub)
    repo = "/api/{kind}/{namespace}/{name}"
    routes: list[tuple[str, list[str], Callable[[Request], Any]]] = [
        ("/api/whoami-v2", ["GET"], repositories.whoami),
        ("/api/validate-yaml", ["POST"], repositories.validate_yaml),
        ("/api/repos/create", ["POST"], repositories.create_repo),
        ("/api/repos/delete", ["DELETE"], repositories.delete_repo),
        (repo, ["GET"], repositories.repo_info),
        (f"{repo}/revision/{{revision}}", ["GET"], repositories.repo_info),
        (f"{repo}/auth-check", ["GET"], repositories.auth_check),
        (f"{repo}/auth-check/write", ["GET"], repositories.auth_check_write),
        (f"{repo}/settings", ["PUT"], repositories.update_settings),
        (f"{repo}/variables", ["GET", "POST"], repositories.space_variables),
        (f"{repo}/runtime", ["GET"], repositories.space_runtime),
        (f"{repo}/hardware", ["POST"], repositories.space_runtime),
        (f"{repo}/tree/{{revision}}", ["GET"], content.tree),
        (f"{repo}/tree/{{revision}}/{{path:path}}", ["GET"], content.tree),
        (f"{repo}/paths-info/{{revision}}", ["POST"], content.paths_info),
        (f"{repo}/commits/{{revision}}", ["GET"], content.commits),
        (f"{repo}/refs", ["GET"], content.refs),
        (f"{repo}/tag/{{revision}}", ["POST", "DELETE"], content.tag),
        (f"{repo}/branch/{{revision}}", ["POST", "DELETE"], content.branch),
        (f"{repo}/preupload/{{revision}}", ["POST"], content.preupload),
        (f"{repo}/commit/{{revision}}", ["POST"], content.commit),
        (f"{repo}/xet-write-token/{{revision}}", ["GET"], content.xet_write_token),
        ("/lfs/{oid}", ["PUT"], content.lfs_put),
    ]
    for prefix in ("", "/datasets", "/spaces"):
        base = f"{prefix}/{{namespace}}/{{name}}"
        routes.append((f"{base}.git/info/lfs/objects/batch", ["POST"], content.lfs_batch))
        routes.append((f"{base}/resolve/{{revision}}/{{path:path}}", ["GET", "HEAD"], content.resolve))
    return Starlette(
        routes=[Route(path, handler, methods=methods) for path, methods, handler in routes],
        exception_handlers={HubError: _answer_error},
    )


def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    headers = {"X-Error-Message": error.message.replace("\n", " ")}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message}, error.status, headers)
