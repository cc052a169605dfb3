"""A hub of model repositories on this machine: Hugging Face's protocol and ModelScope's.

Large files (those that a hub keeps in LFS) are sent by another host, as the real hubs do.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LFS = (".bin", ".model", ".onnx", ".png", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Request:
    """What was asked. `host` is "hub" or "cdn"; the headers' names are in lower case."""

    host: str
    method: str
    path: str
    headers: dict


@dataclass
class Faults:
    """What goes wrong, by the file's path in its repository, and how often.

    `drop`: the connections end after so many bytes. `stall`: nothing more comes after so many.
    `slow`: seconds before every 256 kB.
    `damage`: a byte is another one. `short`: the last byte is neither sent nor announced.
    `status`: errors instead of the file; "api" for the listing. `sizes`: what the listing says.
    `no_ranges`: the host sends everything always.
    """

    drop: dict = field(default_factory=dict)
    damage: Counter = field(default_factory=Counter)
    stall: dict = field(default_factory=dict)
    slow: dict = field(default_factory=dict)
    short: Counter = field(default_factory=Counter)
    status: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    no_ranges: bool = False


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients go away in the middle: that is what is tested."""


class HubServer:
    """`repositories` are files by path by "owner/name"; `url` is the endpoint."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.faults = Faults()
        self.requests = []
        self._servers = [
            _QuietServer(("127.0.0.1", 0), self._handler(host)) for host in ("hub", "cdn")
        ]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def asked(self, end, method="GET"):
        """The requests for a path that ends so, to the host that sends the bytes."""
        found = [r for r in self.requests if r.path.endswith(end) and r.method == method]
        return [r for r in found if r.host == "cdn"] or found

    def _handler(self, host):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = unquote(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                hub.requests.append(Request(host, self.command, path, headers))
                hub.answer(self, host)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, handler, host):
        parts = urlsplit(unquote(handler.path))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.strip("/").split("/")
        if path[:2] == ["api", "models"]:
            self._send_listing(handler, "/".join(path[2:4]), self._hugging_face)
        elif path[:3] == ["api", "v1", "models"] and path[-1] == "files":
            self._send_listing(handler, "/".join(path[3:5]), self._model_scope)
        elif path[:3] == ["api", "v1", "models"] and path[-1] == "repo":
            self._send_file(handler, host, "/".join(path[3:5]), query["FilePath"])
        elif path[2:3] == ["resolve"]:
            self._send_file(handler, host, "/".join(path[:2]), "/".join(path[4:]))
        else:
            send(handler, 404, b"{}")

    def _send_listing(self, handler, name, listing):
        status = self.faults.status.get("api", 200 if name in self.repositories else 404)
        if status != 200:
            send(handler, status, json.dumps({"error": "no", "Message": "no"}).encode())
            return
        send(handler, 200, json.dumps(listing(name)).encode(), {"X-Repo-Commit": COMMIT})

    def _hugging_face(self, name):
        siblings = []
        for path, content in self.repositories[name].items():
            size = self.faults.sizes.get(path, len(content))
            entry = {"rfilename": path, "size": size, "blobId": git_sha1(content)}
            if path.endswith(_LFS):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
            siblings.append(entry)
        return {"_id": "0", "id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}

    def _model_scope(self, name):
        folders = {path.rsplit("/", 1)[0] for path in self.repositories[name] if "/" in path}
        files = [{"Path": path, "Size": 0, "Type": "tree"} for path in sorted(folders)]
        for path, content in self.repositories[name].items():
            sha256 = hashlib.sha256(content).hexdigest()
            files.append({"Path": path, "Size": len(content), "Sha256": sha256, "Type": "blob"})
        return {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": files}}

    def _send_file(self, handler, host, name, path):
        content = self.repositories.get(name, {}).get(path)
        statuses = self.faults.status.get(path, [])
        if statuses:
            send(handler, statuses.pop(0), b"")
        elif content is None:
            send(handler, 404, b"")
        elif path.endswith(_LFS) and host == "hub":
            sha256 = hashlib.sha256(content).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
            target = {"Location": self.cdn + handler.path, "X-Repo-Commit": COMMIT}
            send(handler, 302, b"", {**linked, **target})
        else:
            self._send_bytes(handler, path, content)

    def _send_bytes(self, handler, path, content):
        faults = self.faults
        if faults.damage[path]:
            faults.damage[path] -= 1
            content = bytes([content[0] ^ 1]) + content[1:]
        if faults.short[path]:
            faults.short[path] -= 1
            content = content[:-1]
        start, status, headers = 0, 200, {"ETag": f'"{git_sha1(content)}"'}
        wanted = handler.headers.get("Range", "")
        if wanted and not faults.no_ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            status = 206 if start < len(content) else 416
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        limit = faults.drop.get(path, [])
        limit = limit.pop(0) if limit else len(content)
        stalled = faults.stall.pop(path, None)
        sent = content[start:]
        headers["Content-Length"] = str(len(sent))
        if path in faults.slow:
            send(handler, status, b"", headers)
            for at in range(0, len(sent), 1 << 18):
                time.sleep(faults.slow[path])
                handler.wfile.write(sent[at : at + (1 << 18)])
            return
        send(handler, status, sent[: limit if stalled is None else stalled], headers)
        if stalled is not None:
            handler.wfile.flush()
            time.sleep(60)
        if limit < len(sent):
            handler.close_connection = True


def send(handler, status, body, headers=None):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def git_sha1(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@contextmanager
def hub_of(repositories):
    """A running hub."""
    server = HubServer(repositories)
    try:
        yield server
    finally:
        server.stop()


def files_of(folder):
    """The contents of a folder by path, hidden files left out."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    paths = [path for path in paths if not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
