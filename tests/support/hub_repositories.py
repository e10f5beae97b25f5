"""The Hub's endpoints for accounts, repositories and their settings."""

import re

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.hub_access import USER, Endpoints, require_write
from tests.support.hub_storage import Commit, HubError, Repository


class RepositoryEndpoints(Endpoints):
    """One method an endpoint, named as the client's method that calls it where there is one."""

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
        require_write(account, repo_id)
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        if (kind, repo_id) in self.hub.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        private = body.get("visibility") == "private"
        self.hub.repositories[kind, repo_id] = Repository(kind, repo_id, private, body.get("sdk"))
        if kind == "spaces":
            self.hub.space_variables[repo_id] = {entry["key"]: entry["value"] for entry in body.get("variables", [])}
            self.hub.space_hardware[repo_id] = body.get("hardware", "cpu-basic")
        return JSONResponse({"url": url, "name": repo_id, "private": private})

    async def delete_repo(self, request: Request) -> Response:
        account, body = self._signed_in(request), await request.json()
        key = (f"{body.get('type') or 'model'}s", f"{body.get('organization') or account.name}/{body['name']}")
        require_write(account, key[1])
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
        if "blobs" in request.query_params:
            info["siblings"] = [{"rfilename": path, "size": len(commit.files[path].content)} for path in commit.files]
        if repository.sdk:
            info["sdk"] = repository.sdk
        info |= {key: card[key] for key in ("pipeline_tag", "library_name", "sdk") if key in card}
        return JSONResponse(info)


def _card_metadata(commit: Commit) -> dict:
    card = commit.files.get("README.md")
    block = re.match(r"\s*---\n(.*?)\n---", card.content.decode(), re.DOTALL) if card else None
    return (yaml.safe_load(block[1]) or {}) if block else {}
