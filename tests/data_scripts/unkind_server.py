"""A local HTTP server that does whatever real ones do on a bad day, one behaviour per request."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UnkindServer:
    """``files``: path → bytes. ``plan``: behaviours of the next requests, "ok" when it is used up.

    ok · drop (half of it) · 404 · 416 · 503 · hang · plain (ignores ranges) · no_length · cut_no_length (half
    of it) · wrong (other bytes) · bare (no validators) · splice (a 206 although the file has changed) ·
    shifted (a 206 that begins elsewhere)
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: list[str] = []
        self.log: list[tuple[str, str | None, int]] = []  # path, Range, status
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.http.daemon_threads = True

    def __enter__(self) -> "UnkindServer":
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"


def _handler_for(server: UnkindServer) -> type:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            how = server.plan.pop(0) if server.plan else "ok"
            wanted = self.headers.get("Range")
            body = server.files.get(self.path)
            if body is None or how == "404":
                return self.answer(404, b"", wanted)
            if how in ("503", "416"):
                return self.answer(int(how), b"", wanted)
            if how == "hang":
                time.sleep(0.6)
                return None
            etag = f'"{hashlib.md5(body).hexdigest()}"'
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            same = self.headers.get("If-Range") in (None, etag)
            if how == "wrong":
                body = body[::-1]
            partial = wanted and (same or how in ("splice", "shifted")) and how not in ("plain", "no_length")
            rest = body[start:] if partial else body
            headers = {} if how == "bare" else {"ETag": etag}
            if partial:
                first = start + 1 if how == "shifted" else start
                headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            if "no_length" not in how:
                headers["Content-Length"] = str(len(rest))
            cut = len(rest) // 2 if how in ("drop", "cut_no_length") else len(rest)
            return self.answer(206 if partial else 200, rest[:cut], wanted, headers)

        def answer(self, status: int, body: bytes, wanted: str | None, headers: dict | None = None) -> None:
            server.log.append((self.path, wanted, status))
            self.send_response(status)
            for name, value in (headers or {"Content-Length": "0"}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
