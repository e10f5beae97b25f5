"""The Hub's endpoints for what a repository holds: files, commits, branches and tags."""

import hashlib
import re
import time
from pathlib import PurePosixPath
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.hub_access import Account, Endpoints, require_write
from tests.support.hub_storage import LFS_SUFFIXES, Commit, HubError, Repository


class ContentEndpoints(Endpoints):
    """One method an endpoint, named as the client's method that calls it where there is one."""

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
        """Whoever sees the repository may open a pull request; committing is for those who may write."""
        account, repository = self._signed_in(request), self._repository(request)
        if account.role != "write":
            raise HubError(403, "You have read access but not the required permissions for this operation")
        if request.query_params.get("create_pr") != "1":
            require_write(account, repository.repo_id)
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

    async def xet_write_token(self, request: Request) -> Response:
        """Sends the client's Xet library to a folder in place of a storage server."""
        self._may_commit(request)
        storage = f"local://{self.hub.xet_folder}"
        return JSONResponse({"casUrl": storage, "accessToken": "loopback", "exp": int(time.time()) + 3600})

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


def _delete_ref(refs: dict[str, Commit], name: str) -> Response:
    if refs.pop(name, None) is None:
        raise HubError(404, f"{name} does not exist", "RevisionNotFound")
    return JSONResponse({})
