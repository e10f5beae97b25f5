"""Hub repositories in memory: every commit is an immutable snapshot that branches, tags and pull requests point at."""

import base64
import binascii
import datetime
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath


LFS_SUFFIXES = {".safetensors", ".onnx", ".parquet", ".arrow", ".bin", ".pt", ".png", ".jpg", ".webp", ".gz", ".zip"}


class HubError(Exception):
    """An answer other than success; `code` becomes the X-Error-Code header that the Hub's client reads."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    content: bytes
    is_lfs: bool

    @property
    def etag(self) -> str:
        """What the client compares with its own file: SHA-256 for LFS, git's SHA-1 for a regular file."""
        return hashlib.sha256(self.content).hexdigest() if self.is_lfs else _git_sha1(self.content)

    def tree_entry(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": _git_sha1(self.content)}
        if self.is_lfs:
            entry["lfs"] = {"oid": self.etag, "size": len(self.content), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: "Commit | None"
    author: str
    title: str
    message: str
    date: str
    files: dict[str, StoredFile]

    def history(self) -> Iterable["Commit"]:
        commit: Commit | None = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def tree(self, folder: str, recursive: bool) -> list[dict]:
        """Entries below `folder` ("" for all), as the Hub lists them; HubError 404 where there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        entries, folders = [], set()
        for path, file in sorted(self.files.items()):
            if not path.startswith(prefix):
                continue
            parents = [str(p) for p in PurePosixPath(path).parents if str(p) != "." and str(p).startswith(prefix)]
            folders.update(p for p in parents if recursive or "/" not in p.removeprefix(prefix))
            if recursive or "/" not in path.removeprefix(prefix):
                entries.append(file.tree_entry(path))
        if folder and not entries and not folders:
            raise HubError(404, f"{folder} does not exist on {self.oid}", "EntryNotFound")
        return entries + [
            {"type": "directory", "path": p, "size": 0, "oid": _git_sha1(p.encode())} for p in sorted(folders)
        ]


@dataclass
class Repository:
    kind: str  # "models", "datasets" or "spaces"
    repo_id: str
    private: bool
    sdk: str | None = None  # of a Space, until its card names one
    branches: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)
    pull_requests: dict[str, Commit] = field(default_factory=dict)  # "refs/pr/1" -> its head
    all_commits: dict[str, Commit] = field(default_factory=dict)
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        files = {".gitattributes": StoredFile(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", is_lfs=False)}
        self.branches["main"] = self._new_commit(None, "system", "initial commit", "", files)

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request, full or short commit hash names."""
        for refs in (self.branches, self.pull_requests, self.tags):
            if revision in refs:
                return refs[revision]
        matches = [c for oid, c in self.all_commits.items() if len(revision) >= 7 and oid.startswith(revision)]
        if len(matches) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return matches[0]

    def file(self, revision: str, path: str) -> tuple[Commit, StoredFile]:
        commit = self.resolve(revision)
        if path not in commit.files:
            raise HubError(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        return commit, commit.files[path]

    def commit(
        self, revision: str, payload: bytes, lfs_objects: dict[str, bytes], author: str, as_pull_request: bool
    ) -> tuple[Commit, str]:
        """Applies a whole NDJSON payload, or nothing of it; returns the commit and the ref that now points at it."""
        head = self.resolve(revision)
        lines = [json.loads(line) for line in payload.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", head.oid) != head.oid:
            raise HubError(412, f"A commit has happened since {header['parentCommit']}. Please refresh and try again.")
        files = dict(head.files)
        for line in lines:
            _apply(files, line["key"], line["value"], lfs_objects)
        commit = self._new_commit(head, author, header["summary"], header.get("description", ""), files)
        if as_pull_request:
            ref = f"refs/pr/{len(self.pull_requests) + 1}"
            self.pull_requests[ref] = commit
        elif revision in self.branches:
            ref = revision
            self.branches[ref] = commit
        else:
            raise HubError(400, f"Cannot commit to {revision!r}: not a branch", "InvalidRevision")
        return commit, ref

    def _new_commit(
        self, parent: Commit | None, author: str, title: str, message: str, files: dict[str, StoredFile]
    ) -> Commit:
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        oid = hashlib.sha1(f"{self.kind}/{self.repo_id} {next(self._serial)} {title} {date}".encode()).hexdigest()
        commit = Commit(oid, parent, author, title, message, date, files)
        self.all_commits[oid] = commit
        return commit


def _apply(files: dict[str, StoredFile], key: str, value: dict, lfs_objects: dict[str, bytes]) -> None:
    if key == "header":
        return
    path = value["path"]
    if key == "file":
        try:
            files[path] = StoredFile(base64.b64decode(value["content"], validate=True), is_lfs=False)
        except binascii.Error as error:
            raise HubError(400, f"{path}: not base64") from error
    elif key == "lfsFile":
        if value["oid"] not in lfs_objects:
            raise HubError(400, f"LFS pointer of {path} points to a file that does not exist")
        files[path] = StoredFile(lfs_objects[value["oid"]], is_lfs=True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    elif key == "deletedFolder":
        for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[name]
    else:
        raise HubError(400, f"Unknown operation {key!r}")
