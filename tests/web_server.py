"""A web server that answers as a test wants it to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def web_server(answer: Callable[[str, str | None], tuple[int, bytes]], port: int = 0) -> Iterator[str]:
    """Its address; a free port, unless one is given.

    `answer` is given path and Range of a request, several at once, and gives status and content.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer(self.path, self.headers["Range"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def part_of(content: bytes, asked: str) -> bytes:
    """What a Range names; nothing behind the end."""
    first, last = asked.removeprefix("bytes=").split("-")
    return content[int(first) : int(last) + 1]
