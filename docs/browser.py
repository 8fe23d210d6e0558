"""A headless browser: Chromium, controlled by the Chrome DevTools Protocol.

Belongs here: starting it, opening a page, waiting for a condition on it, taking a picture. Does not belong here: which
pictures there are (`docs/pictures.py`).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from contracts.errors import StackError
from contracts.waiting import comes_true, wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "This needs a Chromium browser, and none is on the PATH. Install one (Debian, Ubuntu: apt install chromium), then "
    "run it again."
)
START_SECONDS = 30.0
ANSWER_SECONDS = 60.0
FRAME_BYTES_MAX = 1 << 28
CLIP = ("x", "y", "width", "height")


@dataclass(kw_only=True)
class Browser:
    """One page of a browser."""

    socket: ClientConnection
    number: int = field(default=0, init=False)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result; StackError with the browser's error message."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=ANSWER_SECONDS))
            if answer.get("id") == self.number:
                break
        if "error" in answer:
            raise StackError(f"The browser refused {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def show(self, address: str, *, width: int, height: int, scale: float = 1.0, is_printed: bool = False) -> None:
        """Open an address in a window of that size (CSS pixels); `is_printed`: with the page's print styles."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        self.call("Emulation.setEmulatedMedia", media="print" if is_printed else "screen")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'", what=f"{address} to load")

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression: str, *, what: str, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until a JavaScript expression is true; StackError when it takes too long."""
        wait_until(
            lambda: self.ask(expression),
            timeout_seconds=seconds,
            failure=lambda: f"Waiting for {what} took longer than {seconds:g} s.",
        )

    def picture(self, path: Path, *, clip: Sequence[float] | None = None) -> None:
        """Write a PNG of the window, or of a part of it: x, y, width, height in CSS pixels."""
        part = {} if clip is None else {"clip": {**dict(zip(CLIP, clip, strict=True)), "scale": 1}}
        taken = self.call("Page.captureScreenshot", format="png", **part)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser until the block ends; StackError says how to install one if none is found."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise StackError(MISSING)
    with tempfile.TemporaryDirectory(prefix="tieout-browser-", ignore_cleanup_errors=True) as folder:
        # We turn its sandbox off: it does not run as root, and we open only our own pages.
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        child = subprocess.Popen(
            [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_address(Path(folder), child), max_size=FRAME_BYTES_MAX) as socket:
                page = Browser(socket=socket)
                page.call("Page.enable")
                yield page
        finally:
            child.terminate()
            child.wait()


def _address(folder: Path, child: subprocess.Popen[bytes]) -> str:
    """Wait until the browser has started, and return the WebSocket address of its page."""
    port = folder / "DevToolsActivePort"

    def has_port() -> bool:
        return port.exists() and bool(port.read_text().strip())

    comes_true(lambda: has_port() or child.poll() is not None, seconds=START_SECONDS)
    if not has_port():
        raise StackError(f"The browser did not start (exit code {child.poll()}).")
    with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=10) as answer:
        pages = [page for page in json.load(answer) if page["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
