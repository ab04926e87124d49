"""A real S3 server on loopback, in a process of its own: moto's. And a proxy before it that does harm on request."""

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

_PROGRAM = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""

Harm = Literal["500", "503", "403", "reset", "cut short", "wrong bit"]
Rule = Callable[[str, str], "Harm | None"]
"""Called with (method, path), says what harm is done to that request."""


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an empty server."""
    program = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.communicate(b"\n", timeout=30)


class Proxy:
    """Passes requests on, and keeps a list of them; `rule` says what harm is done to one."""

    def __init__(self, target: str) -> None:
        self._target = target.removeprefix("http://")
        self.seen: list[tuple[str, str]] = []
        self.rule: Rule = lambda method, path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, harm: Harm, method: str, part: str = "", *, times: int | None = None) -> None:
        """Do harm to requests of this method whose path holds `part`: the next `times`, or all."""
        left = [times]

        def rule(asked: str, path: str) -> Harm | None:
            if asked != method or part not in path or left[0] == 0:
                return None
            left[0] = None if left[0] is None else left[0] - 1
            return harm

        self.rule = rule

    def count(self, method: str, part: str = "") -> int:
        """How many such requests there were."""
        return sum(m == method and part in path for m, path in self.seen)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path))
                harm = proxy.rule(self.command, self.path)
                if harm == "reset":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                elif harm in {"500", "503", "403"}:
                    self._refuse(int(harm))
                else:
                    self._answer(*self._ask(body), harm)

            def _refuse(self, status: int) -> None:
                code = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}[status]
                text = f"<Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>".encode()
                self._answer(status, [("Content-Type", "application/xml")], text, None)

            def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                onward = http.client.HTTPConnection(proxy._target, timeout=60)
                onward.request(self.command, self.path, body, dict(self.headers))
                answer = onward.getresponse()
                data = answer.read()
                onward.close()
                return answer.status, answer.getheaders(), data

            def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, harm: Harm | None) -> None:
                if harm == "wrong bit" and data:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                self.send_response(status)
                skipped = {"content-length", "connection", "transfer-encoding", "date", "server"}
                length = next((v for k, v in headers if k.lower() == "content-length"), str(len(data)))
                for name, value in headers:
                    if name.lower() not in skipped and not (harm == "wrong bit" and "checksum" in name.lower()):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if harm == "cut short" else data)
                if harm == "cut short":
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        return Handler
