"""A hub on 127.0.0.1: the part of the Hugging Face protocol that listing and downloading a dataset needs.

Large files answer with a redirect to a content address and their SHA-256, as on the real hub; the others directly.
Faults can be set: connections cut in the middle of a file, and content that differs from what was listed.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".model")


@dataclass
class Hub:
    """What the server has, does wrong, and was asked."""

    repositories: dict[str, Path] = field(default_factory=dict)
    url: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    """File name -> after how many bytes the connection is cut, once."""
    corrupt: set[str] = field(default_factory=set)
    """File names whose content differs from what was listed, always."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, file name and Range of every request for content."""

    def gets(self) -> list[str]:
        return [name for method, name, _ in self.requests if method == "GET"]


@contextmanager
def serve_hub(**repositories: Path) -> Iterator[Hub]:
    """A hub with a repository `test/<name>` for each of `repositories`."""
    hub = Hub({f"test/{name}": path for name, path in repositories.items()})

    class Handler(HubHandler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        for repo, root in self.state.repositories.items():
            commit = self.commit(root)
            if path in (f"api/datasets/{repo}", f"api/datasets/{repo}/revision/main"):
                return self.reply_json({"id": repo, "sha": commit, "private": False})
            if path.startswith(f"api/datasets/{repo}/tree/"):
                return self.reply_json([self.listed(root, file) for file in files_below(root)])
            for kind in ("main", commit):
                if path.startswith(f"datasets/{repo}/resolve/{kind}/"):
                    return self.reply_resolve(repo, root, path.partition(f"/resolve/{kind}/")[2])
            if path.startswith(f"content/{repo}/"):
                return self.reply_content(root / path.removeprefix(f"content/{repo}/"), {})
        return self.reply_missing("RepoNotFound")

    @staticmethod
    def commit(root: Path) -> str:
        """Changes with the content, as commits do."""
        digest = hashlib.sha1()
        for file in files_below(root):
            digest.update(f"{file} {hashlib.sha1((root / file).read_bytes()).hexdigest()}".encode())
        return digest.hexdigest()

    @staticmethod
    def listed(root: Path, file: str) -> dict[str, object]:
        content = (root / file).read_bytes()
        entry: dict[str, object] = {
            "type": "file",
            "path": file,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        if file.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def reply_resolve(self, repo: str, root: Path, file: str) -> None:
        if not (root / file).is_file():
            return self.reply_missing("EntryNotFound")
        content = (root / file).read_bytes()
        headers = {"X-Repo-Commit": self.commit(root), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if not file.endswith(LARGE):
            return self.reply_content(root / file, headers)
        headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        # Another host, as on the real hub: the library follows redirects within the hub while it asks for the size.
        elsewhere = self.state.url.replace("127.0.0.1", "localhost")
        headers |= {"Location": f"{elsewhere}/content/{repo}/{file}"}
        return self.reply(302, b"", headers)

    def reply_content(self, path: Path, headers: dict[str, str]) -> None:
        content = path.read_bytes()
        requested = self.headers.get("Range", "")
        self.state.requests.append((self.command, path.name, requested))
        if path.name in self.state.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(requested.removeprefix("bytes=").partition("-")[0]) if requested else 0
        headers = {"Accept-Ranges": "bytes", **headers}
        if requested:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        stop = self.state.cut.pop(path.name, None) if self.command == "GET" else None
        self.reply(206 if requested else 200, content[start:], headers, stop)

    def reply_missing(self, code: str) -> None:
        self.reply(404, b"{}", {"X-Error-Code": code, "X-Error-Message": f"{self.path} does not exist"})

    def reply_json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, body: bytes, headers: dict[str, str], stop: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:stop])
        if stop is not None:
            self.close_connection = True


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
