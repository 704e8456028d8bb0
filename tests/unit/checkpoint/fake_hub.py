"""A small hub on 127.0.0.1: API, redirects to a second server for large files, faults."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Repositories with commits; every fault is a field that a test sets."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}  # commit -> file -> content
        self.branches: dict[str, str] = {}
        self.repo = "owner/model"
        self.gated_for: str | None = None  # the only token that may read
        self.statuses: list[int] = []  # answered first, one a request
        self.cuts: list[int] = []  # bytes after which downloads of large files break off
        self.corrupt: set[str] = set()  # large files whose bytes are not what their hash says
        self.shorten: set[str] = set()  # large files that end early without breaking off
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.before_weights = None  # called once, when the first large file is asked for
        self.hub = self._serve(_Hub)
        self.cdn = self._serve(_Cdn)

    def _serve(self, handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"fake": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def url(self, server) -> str:
        return f"http://127.0.0.1:{server.server_address[1]}"

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def close(self) -> None:
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for."""
        paths = [path for method, path, _ in self.requests if method == "GET"]
        return [path.rsplit("/", 1)[1] for path in paths if "/resolve/" in path or "/cdn/" in path]


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".model", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def log_message(self, *_):
        pass

    def note(self):
        self.fake.requests.append((self.command, self.path, dict(self.headers)))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()


class _Hub(_Handler):
    def do_GET(self):
        self.note()
        fake, path = self.fake, unquote(urlsplit(self.path).path)
        if fake.statuses:
            self.answer(fake.statuses.pop(0), b"{}")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self.api(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*match.groups())
        else:
            self.answer(404, b"{}")

    def files(self, repo, revision):
        if repo != self.fake.repo:
            self.answer(401, b"{}", X_Error_Code="RepoNotFound")
            return None, None
        sha = self.fake.branches.get(revision or "main", revision)
        if sha not in self.fake.commits:
            self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
            return None, None
        return sha, self.fake.commits[sha]

    def api(self, repo, kind, revision):
        sha, files = self.files(repo, (revision or "").rstrip("/"))
        if files is None:
            return
        if kind == "tree":
            entries = []
            for name, content in files.items():
                entry = {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                if is_large(name):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
                entries.append(entry)
            self.answer(200, json.dumps(entries).encode(), Content_Type="application/json")
            return
        siblings = [{"rfilename": name} for name in files]
        info = {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings, "tags": []}
        self.answer(200, json.dumps(info).encode(), Content_Type="application/json")

    def resolve(self, repo, revision, name):
        sha, files = self.files(repo, revision)
        if files is None:
            return
        token = self.headers.get("Authorization")
        if self.fake.gated_for is not None and token != f"Bearer {self.fake.gated_for}":
            self.answer(401 if token is None else 403, b"{}", X_Error_Code="GatedRepo")
            return
        if name not in files:
            self.answer(404, b"{}", X_Error_Code="EntryNotFound")
            return
        content = files[name]
        if not is_large(name):
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=sha)
            return
        if self.fake.before_weights is not None:
            action, self.fake.before_weights = self.fake.before_weights, None
            action()
        self.answer(
            302,
            Location=f"{self.fake.url(self.fake.cdn)}/cdn/{sha}/{name}",
            X_Repo_Commit=sha,
            X_Linked_Etag=f'"{hashlib.sha256(content).hexdigest()}"',
            X_Linked_Size=str(len(content)),
        )


class _Cdn(_Handler):
    def do_GET(self):
        self.note()
        _, _, sha, name = self.path.split("/", 3)
        content = self.fake.commits[sha][name]
        if name in self.fake.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if name in self.fake.shorten:
            content = content[:-1]
        start, total = 0, len(content)
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
        body, headers = content[start:], {}
        if start:
            headers["Content_Range"] = f"bytes {start}-{total - 1}/{total}"
        if self.fake.cuts and name.endswith(".safetensors"):
            headers["Content_Length"] = str(len(body))
            body = body[: self.fake.cuts.pop(0)]
            self.close_connection = True
        self.answer(206 if start else 200, body, **headers)
