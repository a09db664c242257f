"""A Hugging Face Hub on loopback: its API, its files by commit, its store of large files, and its failures."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Repository:
    """Files by name; large ones (safetensors, pickles) are kept in the store, as the Hub does it."""

    files: Mapping[str, bytes]
    revisions: tuple[str, ...] = ("main",)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted((name, self.etag(name)) for name in self.files)).encode()).hexdigest()

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".ckpt"))

    def etag(self, name: str) -> str:
        data = self.files[name]
        return (hashlib.sha256(data) if self.is_large(name) else hashlib.sha1(data)).hexdigest()

    def describe(self, name: str) -> dict[str, object]:
        size, oid = len(self.files[name]), self.etag(name)
        large = {"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if self.is_large(name) else {}
        return {"type": "file", "path": name, "size": size, "oid": oid[:40], **large}


@dataclass
class Hub:
    """What the server holds, what it shall do wrong, and what it was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # part of a path -> status, X-Error-Code
    cuts: list[int] = field(default_factory=list)  # after so many bytes of the store the connection is closed
    damaged: bool = False  # the store gives other bytes than it should
    ranges: bool = True  # the store honors Range
    etag: str | None = None  # sent in place of the right ones
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def asked(self, part: str, method: str = "GET") -> list[Request]:
        return [request for request in self.requests if part in request.path and request.method == method]


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


def answer(hub: Hub, method: str, path: str, start: int) -> Answer:
    for part, (status, code) in hub.refusals.items():
        if part in path:
            return Answer(status, b"{}", {"X-Error-Code": code} if code else {})
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/?]+))?(?:\?.*)?", path):
        name, kind, revision = found.groups()
        repository = hub.repositories.get(name)
        if repository is None:  # the Hub does not tell strangers whether there is one
            return Answer(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if revision not in (None, repository.commit, *repository.revisions):
            return Answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = [repository.describe(name) for name in repository.files]
        siblings = [{"rfilename": entry["path"]} for entry in files]
        info = {"id": name, "sha": repository.commit, "siblings": siblings, "tags": [], "private": False}
        return Answer(200, json.dumps(files if kind == "tree" else info).encode())
    if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        return resolve(hub, hub.repositories[found[1]], found[3], method)
    if found := re.fullmatch(r"/store/([0-9a-f]{64})", path):
        return stored(hub, found[1], start)
    return Answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})


def resolve(hub: Hub, repository: Repository, name: str, method: str) -> Answer:
    headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{hub.etag or repository.etag(name)}"'}
    if not repository.is_large(name):
        return Answer(200, repository.files[name], headers)
    headers["X-Linked-Etag"], headers["X-Linked-Size"] = headers["ETag"], str(len(repository.files[name]))
    store = hub.url.replace("127.0.0.1", "localhost")  # another host, which must not see the login
    return Answer(302, b"", {**headers, "Location": f"{store}/store/{repository.etag(name)}"})


def stored(hub: Hub, digest: str, start: int) -> Answer:
    large = {r.etag(name): data for r in hub.repositories.values() for name, data in r.files.items()}
    data = large[digest]
    if hub.damaged:
        data = data[:-1] + bytes([data[-1] ^ 1])
    headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    if not start or not hub.ranges:
        return Answer(200, data, headers)
    return Answer(206, data[start:], {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, range_ = unquote(self.path), self.headers.get("Range")
            hub.requests.append(Request(self.command, path, range_, self.headers.get("Authorization")))
            start = int(range_.removeprefix("bytes=").split("-")[0]) if range_ else 0
            status, body, headers = answer(hub, self.command, path, start)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = hub.cuts.pop(0) if hub.cuts and path.startswith("/store/") else None
            self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    return Handler


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serves `hub` at `hub.url` from a thread."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files as those of a repository."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
