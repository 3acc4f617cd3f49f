"""A Chromium without a window, driven over its own DevTools protocol: for pictures in docs and for tests of pages.

Use: `with browser(find_browser(None)) as page: page.open(url); page.wait("document.title"); page.shot()`.
"""

import base64
import io
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from websockets.sync.client import ClientConnection, connect  # comes with Dagster's web server

from pipelines.errors import UsageError, WorldlineError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless",
    "--no-sandbox",  # containers run as root, where Chromium refuses its sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
CODES = {"Tab": 9, "Enter": 13, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
CODES |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}  # of Windows, which DevTools speaks
PATIENCE = 120.0  # seconds for a server or a page
T = TypeVar("T")


class Page:
    """One tab: the line to it."""

    def __init__(self, line: ClientConnection) -> None:
        self._line, self._numbers = line, itertools.count(1)

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One command of the browser's protocol, and its answer. Raises WorldlineError where it refuses."""
        number = next(self._numbers)
        self._line.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while (answer := json.loads(self._line.recv(timeout=PATIENCE))).get("id") != number:
            continue
        if "error" in answer:
            raise WorldlineError(f"The browser refused {method} ({answer['error']['message']}): try another one")
        return answer["result"]

    def size(self, width: int, height: int, scale: float = 1, touch: bool = False) -> None:
        """The window's, in pixels of the page, and the screen's pixels per such pixel; with `touch`, a phone's."""
        device = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch}
        self.ask("Emulation.setDeviceMetricsOverride", **device)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=touch)

    def open(self, url: str) -> None:
        """Go there."""
        self.ask("Page.navigate", url=url)

    def get(self, expression: str) -> Any:
        """What an expression, or the promise that it makes, is in the page. None where it fails."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")

    def wait(self, expression: str, patience: float = PATIENCE) -> None:
        """Until an expression is true. Raises WorldlineError after `patience` seconds."""
        until = time.monotonic() + patience
        while not self.get(f"Boolean({expression})"):
            if time.monotonic() > until:
                raise WorldlineError(f"Not within {patience:.0f} s: {expression}; try again on a quieter machine")
            time.sleep(0.05)

    def key(self, name: str, up: bool = True, down: bool = True) -> None:
        """Press a key by its letter or name, such as Tab, and let it go; `up` or `down` alone is half of that."""
        code = CODES.get(name, ord(name.upper()) if len(name) == 1 else 0)
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        about = {"key": name, "windowsVirtualKeyCode": code}
        if down:
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        if up:
            self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def touch(self, *selectors: str) -> None:
        """Lay a finger on the middle of each of these elements; none: lift all."""
        points = []
        for number, selector in enumerate(selectors):
            points.append({**self._middle(selector), "id": number})
        self.ask("Input.dispatchTouchEvent", type="touchStart" if points else "touchEnd", touchPoints=points)

    def click(self, selector: str) -> None:
        """As the mouse does it, with a press and a release."""
        where = self._middle(selector)
        for what in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=what, button="left", clickCount=1, **where)

    def _middle(self, selector: str) -> dict[str, float]:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.get(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({box})")
        return {"x": x, "y": y}

    def shot(self) -> Image.Image:
        """What the window shows."""
        found = self.ask("Page.captureScreenshot", format="png")
        return Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")


def find_browser(name: str | None) -> str:
    """The path of `name`, or of the first browser known. Raises UsageError when there is none."""
    for candidate in [name] if name else BROWSERS:
        if found := shutil.which(candidate):
            return found
    raise UsageError(f"No browser '{name or BROWSERS[0]}' found: install chromium, or name one with --browser PATH")


class Browser:
    """A running one: more tabs, each in a window of its own, as hidden ones draw nothing."""

    def __init__(self, address: str, page: Page) -> None:
        self._address, self.page = address, page

    @contextmanager
    def window(self) -> Iterator[Page]:
        """One page more, for as long as the context lasts."""
        target = self.page.ask("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        with _page(f"ws://{self._address}/devtools/page/{target}") as page:
            yield page
        self.page.ask("Target.closeTarget", targetId=target)


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """A browser without a window for as long as the context lasts, with one page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = wait(process, lambda: (Path(profile) / "DevToolsActivePort").read_text().split()[0])
            pages = wait(process, lambda: json.loads(fetch(f"http://127.0.0.1:{port}/json/list")))
            line = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with _page(line) as page:
                yield Browser(f"127.0.0.1:{port}", page)
        finally:
            end(process)


@contextmanager
def _page(line: str) -> Iterator[Page]:
    with connect(line, max_size=None, proxy=None) as page:
        yield Page(page)


def fetch(url: str) -> bytes:
    """What a server answers. Raises OSError."""
    with urllib.request.urlopen(url, timeout=5) as reply:
        return reply.read()


def wait(process: subprocess.Popen[bytes], look: Callable[[], T]) -> T:
    """What `look` returns once it stops failing for want of a file or a listener."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError, IndexError):
            return look()
        time.sleep(0.3)
    how = f"ended with exit code {process.returncode}" if process.poll() is not None else "did not answer"
    raise WorldlineError(f"{' '.join(map(str, process.args[:4]))} ... {how}: start it by hand to see why")  # type: ignore[index]


def end(process: subprocess.Popen[bytes]) -> None:
    """Tell it, wait, and end it by force."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    process.kill()
