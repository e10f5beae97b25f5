"""Who may see and change what on the Hub of the tests."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from starlette.requests import Request

from tests.support.hub_storage import Commit, HubError, Repository


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
    xet_folder: str = ""  # where the client's Xet library puts what it uploads
    space_variables: dict[str, dict[str, str]] = field(default_factory=dict)  # "user/space" -> name -> value
    space_hardware: dict[str, str] = field(default_factory=dict)  # "user/space" -> what was asked for


class Endpoints:
    """What endpoints have in common: the caller, and the repository that the path names."""

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
        if repository is None or (repository.private and not owns(account, repo_id)):
            raise HubError(404 if account else 401, "Repository not found", "RepoNotFound")
        if write:
            require_write(self._signed_in(request), repo_id)
        return repository

    def _commit(self, request: Request) -> tuple[Repository, Commit]:
        repository = self._repository(request)
        return repository, repository.resolve(unquote(request.path_params.get("revision", "main")))


def owns(account: Account | None, repo_id: str) -> bool:
    namespace = repo_id.split("/")[0]
    return account is not None and (namespace == account.name or (namespace == "org" and account.name == USER))


def require_write(account: Account, repo_id: str) -> None:
    if account.role != "write" or not owns(account, repo_id):
        raise HubError(403, f'You don\'t have the rights to write under the namespace "{repo_id.split("/")[0]}"')
