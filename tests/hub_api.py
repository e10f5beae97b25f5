"""The Hub's HTTP API over `hub_storage`: the endpoints that the real `huggingface_hub` client calls."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub_storage import LFS_SUFFIXES, Commit, HubError, Repository


USER = "user"


@dataclass(frozen=True)
class Account:
    name: str
    role: Literal["read", "write"]


@dataclass
class Hub:
    """What one Hub holds: who may call, which repositories there are, which large files were uploaded."""

    accounts: dict[str, Account]  # token -> account
    url: str
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)  # ("models", "user/repo") -> ...
    lfs_objects: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> content
    space_variables: dict[str, dict[str, str]] = field(default_factory=dict)  # "user/space" -> name -> value
    space_hardware: dict[str, str] = field(default_factory=dict)  # "user/space" -> what was asked for


def build_app(hub: Hub) -> Starlette:
    api = Api(hub)
    repo = "/api/{kind}/{namespace}/{name}"
    routes: list[tuple[str, list[str], Callable[[Request], Any]]] = [
        ("/api/whoami-v2", ["GET"], api.whoami),
        ("/api/validate-yaml", ["POST"], api.validate_yaml),
        ("/api/repos/create", ["POST"], api.create_repo),
        ("/api/repos/delete", ["DELETE"], api.delete_repo),
        (repo, ["GET"], api.repo_info),
        (f"{repo}/revision/{{revision}}", ["GET"], api.repo_info),
        (f"{repo}/auth-check", ["GET"], api.auth_check),
        (f"{repo}/auth-check/write", ["GET"], api.auth_check_write),
        (f"{repo}/settings", ["PUT"], api.update_settings),
        (f"{repo}/variables", ["GET", "POST"], api.space_variables),
        (f"{repo}/runtime", ["GET"], api.space_runtime),
        (f"{repo}/hardware", ["POST"], api.space_runtime),
        (f"{repo}/tree/{{revision}}", ["GET"], api.tree),
        (f"{repo}/tree/{{revision}}/{{path:path}}", ["GET"], api.tree),
        (f"{repo}/paths-info/{{revision}}", ["POST"], api.paths_info),
        (f"{repo}/commits/{{revision}}", ["GET"], api.commits),
        (f"{repo}/refs", ["GET"], api.refs),
        (f"{repo}/tag/{{revision}}", ["POST", "DELETE"], api.tag),
        (f"{repo}/branch/{{revision}}", ["POST", "DELETE"], api.branch),
        (f"{repo}/preupload/{{revision}}", ["POST"], api.preupload),
        (f"{repo}/commit/{{revision}}", ["POST"], api.commit),
        ("/lfs/{oid}", ["PUT"], api.lfs_put),
    ]
    for prefix in ("", "/datasets", "/spaces"):
        base = f"{prefix}/{{namespace}}/{{name}}"
        routes.append((f"{base}.git/info/lfs/objects/batch", ["POST"], api.lfs_batch))
        routes.append((f"{base}/resolve/{{revision}}/{{path:path}}", ["GET", "HEAD"], api.resolve))
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


class Api:
    """One method an endpoint, named as the client's method that calls it where there is one."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def _account(self, request: Request) -> Account | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        account = self.hub.accounts.get(header.removeprefix("Bearer "))
        if account is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return account

    def _signed_in(self, request: Request) -> Account:
        account = self._account(request)
        if account is None:
            raise HubError(401, "Invalid username or password.")
        return account

    def _repository(self, request: Request, write: bool = False) -> Repository:
        """The repository that the path names, if the caller may see it (and, with `write`, change it)."""
        kind = request.path_params.get("kind") or request.url.path.split("/")[1]
        if kind not in ("datasets", "spaces"):  # a model's own pages carry no prefix
            kind = "models"
        repo_id = f"{request.path_params['namespace']}/{request.path_params['name']}"
        repository = self.hub.repositories.get((kind, repo_id))
        account = self._account(request)
        if repository is None or (repository.private and not _owns(account, repo_id)):
            raise HubError(404 if account else 401, "Repository not found", "RepoNotFound")
        if write:
            _require_write(self._signed_in(request), repo_id)
        return repository

    def _commit(self, request: Request) -> tuple[Repository, Commit]:
        repository = self._repository(request)
        return repository, repository.resolve(unquote(request.path_params.get("revision", "main")))

    async def whoami(self, request: Request) -> Response:
        account = self._signed_in(request)
        token = {"displayName": "loopback", "role": account.role}
        return JSONResponse(
            {
                "type": "user",
                "name": account.name,
                "fullname": account.name,
                "orgs": [{"type": "org", "name": "org"}] if account.name == USER else [],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )

    async def validate_yaml(self, request: Request) -> Response:
        """Errors for metadata that is not YAML or not a model-index, a warning where there is none at all."""
        text = (await request.json())["content"]
        block = re.match(r"\s*---\r?\n(.*?)\r?\n---(\r?\n|$)", text, re.DOTALL)
        if block is None:
            return JSONResponse(
                {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
            )
        try:
            metadata = yaml.safe_load(block[1])
            if not isinstance(metadata, dict):
                raise ValueError("metadata must be a mapping")
            if "model-index" in metadata:
                model_index_to_eval_results(metadata["model-index"])
        except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
            return JSONResponse({"errors": [{"message": f"{type(error).__name__}: {error}"}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def create_repo(self, request: Request) -> Response:
        account, body = self._signed_in(request), await request.json()
        kind = f"{body.get('type') or 'model'}s"
        repo_id = f"{body.get('organization') or account.name}/{body['name']}"
        _require_write(account, repo_id)
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        if (kind, repo_id) in self.hub.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        private = body.get("visibility") == "private"
        self.hub.repositories[kind, repo_id] = Repository(kind, repo_id, private)
        if kind == "spaces":
            self.hub.space_variables[repo_id] = {entry["key"]: entry["value"] for entry in body.get("variables", [])}
            self.hub.space_hardware[repo_id] = body.get("hardware", "cpu-basic")
        return JSONResponse({"url": url, "name": repo_id, "private": private})

    async def delete_repo(self, request: Request) -> Response:
        account, body = self._signed_in(request), await request.json()
        key = (f"{body.get('type') or 'model'}s", f"{body.get('organization') or account.name}/{body['name']}")
        _require_write(account, key[1])
        if self.hub.repositories.pop(key, None) is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return JSONResponse({})

    async def update_settings(self, request: Request) -> Response:
        repository = self._repository(request, write=True)
        repository.private = (await request.json())["visibility"] == "private"
        return JSONResponse({"private": repository.private})

    async def space_variables(self, request: Request) -> Response:
        variables = self.hub.space_variables[self._repository(request, write=True).repo_id]
        if request.method == "POST":
            body = await request.json()
            variables[body["key"]] = body["value"]
        return JSONResponse({name: {"value": value} for name, value in variables.items()})

    async def space_runtime(self, request: Request) -> Response:
        """GET tells what the Space runs on; POST, to its hardware, asks for something else."""
        is_asking = request.method == "POST"
        repo_id = self._repository(request, write=is_asking).repo_id
        if is_asking:
            self.hub.space_hardware[repo_id] = (await request.json())["flavor"]
        return JSONResponse({"stage": "BUILDING", "hardware": {"requested": self.hub.space_hardware[repo_id]}})

    async def auth_check(self, request: Request) -> Response:
        self._repository(request)
        return JSONResponse({})

    async def auth_check_write(self, request: Request) -> Response:
        self._repository(request, write=True)
        return JSONResponse({})

    async def repo_info(self, request: Request) -> Response:
        repository, commit = self._commit(request)
        card = _card_metadata(commit)
        info = {
            "id": repository.repo_id,
            "author": repository.repo_id.split("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": card.get("tags", []),
            "cardData": card,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }
        info |= {key: card[key] for key in ("pipeline_tag", "library_name", "sdk") if key in card}
        return JSONResponse(info)

    async def tree(self, request: Request) -> Response:
        _, commit = self._commit(request)
        folder = unquote(request.path_params.get("path", "")).strip("/")
        return JSONResponse(commit.tree(folder, request.query_params.get("recursive", "false").lower() == "true"))

    async def paths_info(self, request: Request) -> Response:
        _, commit = self._commit(request)
        entries = {entry["path"]: entry for entry in commit.tree("", recursive=True)}
        paths = (await request.form()).getlist("paths")
        return JSONResponse([entries[path] for path in paths if path in entries])

    async def commits(self, request: Request) -> Response:
        _, head = self._commit(request)
        return JSONResponse(
            [
                {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
                for c in head.history()
            ]
        )

    async def refs(self, request: Request) -> Response:
        repository = self._repository(request)

        def listed(refs: dict[str, Commit], prefix: str) -> list[dict]:
            return [{"name": name, "ref": prefix + name, "targetCommit": commit.oid} for name, commit in refs.items()]

        answer = {
            "branches": listed(repository.branches, "refs/heads/"),
            "converts": [],
            "tags": listed(repository.tags, "refs/tags/"),
        }
        if "include_prs" in request.query_params:
            answer["pullRequests"] = listed(repository.pull_requests, "")
        return JSONResponse(answer)

    async def tag(self, request: Request) -> Response:
        repository = self._repository(request, write=True)
        revision = unquote(request.path_params["revision"])
        if request.method == "DELETE":
            return _delete_ref(repository.tags, revision)
        commit, tag = repository.resolve(revision), (await request.json())["tag"]
        if tag in repository.tags:
            raise HubError(409, f"Tag {tag} already exists")
        repository.tags[tag] = commit
        return JSONResponse({})

    async def branch(self, request: Request) -> Response:
        repository = self._repository(request, write=True)
        branch = unquote(request.path_params["revision"])
        if request.method == "DELETE":
            return _delete_ref(repository.branches, branch)
        if branch in repository.branches:
            raise HubError(409, f"Branch {branch} already exists")
        repository.branches[branch] = repository.resolve((await request.json()).get("startingPoint", "main"))
        return JSONResponse({})

    async def preupload(self, request: Request) -> Response:
        _, commit = self._commit(request)
        self._may_commit(request)
        answer = []
        for file in (await request.json())["files"]:
            is_lfs = PurePosixPath(file["path"]).suffix in LFS_SUFFIXES or file["size"] > 10_000_000
            present = commit.files.get(file["path"])
            oid = present.etag if present and present.is_lfs == is_lfs else None
            mode = "lfs" if is_lfs else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": answer})

    async def commit(self, request: Request) -> Response:
        repository, account = self._may_commit(request)
        revision = unquote(request.path_params["revision"])
        as_pull_request = request.query_params.get("create_pr") == "1"
        payload = await request.body()
        commit, ref = repository.commit(revision, payload, self.hub.lfs_objects, account.name, as_pull_request)
        prefix = "" if repository.kind == "models" else f"{repository.kind}/"
        url = f"{self.hub.url}/{prefix}{repository.repo_id}"
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{commit.oid}"}
        if as_pull_request:
            answer["pullRequestUrl"] = f"{url}/discussions/{ref.removeprefix('refs/pr/')}"
        return JSONResponse(answer)

    def _may_commit(self, request: Request) -> tuple[Repository, Account]:
        """Anybody who sees the repository may open a pull request, and go on with it; the rest is for who may write."""
        account, repository = self._signed_in(request), self._repository(request)
        proposal = repository.pull_requests.get(unquote(request.path_params["revision"]))
        is_proposing = request.query_params.get("create_pr") == "1" or (proposal and proposal.author == account.name)
        if account.role != "write":
            raise HubError(403, "You have read access but not the required permissions for this operation")
        if not is_proposing:
            _require_write(account, repository.repo_id)
        return repository, account

    async def lfs_batch(self, request: Request) -> Response:
        self._repository(request)
        self._signed_in(request)
        objects: list[dict] = [{"oid": o["oid"], "size": o["size"]} for o in (await request.json())["objects"]]
        for entry in objects:
            if entry["oid"] not in self.hub.lfs_objects:
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}", "header": {}}}
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def lfs_put(self, request: Request) -> Response:
        content, oid = await request.body(), request.path_params["oid"]
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubError(400, f"content does not have the SHA-256 {oid}")
        self.hub.lfs_objects[oid] = content
        return Response()

    async def resolve(self, request: Request) -> Response:
        revision, path = unquote(request.path_params["revision"]), unquote(request.path_params["path"])
        commit, file = self._repository(request).file(revision, path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.is_lfs:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Response(file.content, headers=headers, media_type="application/octet-stream")
        start, last = int(wanted[1]), min(int(wanted[2] or len(file.content)), len(file.content) - 1)
        headers["Content-Range"] = f"bytes {start}-{last}/{len(file.content)}"
        return Response(file.content[start : last + 1], 206, headers, media_type="application/octet-stream")


def _owns(account: Account | None, repo_id: str) -> bool:
    namespace = repo_id.split("/")[0]
    return account is not None and (namespace == account.name or (namespace == "org" and account.name == USER))


def _require_write(account: Account, repo_id: str) -> None:
    if account.role != "write" or not _owns(account, repo_id):
        raise HubError(403, f'You don\'t have the rights to write under the namespace "{repo_id.split("/")[0]}"')


def _delete_ref(refs: dict[str, Commit], name: str) -> Response:
    if refs.pop(name, None) is None:
        raise HubError(404, f"{name} does not exist", "RevisionNotFound")
    return JSONResponse({})


def _card_metadata(commit: Commit) -> dict:
    card = commit.files.get("README.md")
    block = re.match(r"\s*---\n(.*?)\n---", card.content.decode(), re.DOTALL) if card else None
    return (yaml.safe_load(block[1]) or {}) if block else {}
