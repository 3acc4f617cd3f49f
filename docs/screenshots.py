"""Photograph the asset graph in Dagster's UI and the leaderboard page, as docs/asset_graph.png and docs/report.png.

Shows what lies in WORLDLINE_HOME, so run `make demo` first. Needs Chromium or Chrome; takes about a minute.
Run: python docs/screenshots.py [--browser PATH] [--into FOLDER]
"""

import argparse
import base64
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from PIL import Image
from websockets.sync.client import ClientConnection, connect  # comes with Dagster's web server

from pipelines.errors import UsageError, WorldlineError
from pipelines.home import open_store

DOCS = Path(__file__).resolve().parent
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
PATIENCE = 120.0  # seconds for a server or a page
# The UI's own names of the open groups, as its address carries them.
GROUPS = ",".join(quote(f"global@global:{group}") for group in ("data", "learning", "evaluation"))
SCALE = 2  # pixels of the picture per pixel of the page
GRAPH_WINDOW = (1700, 1100)
GRAPH_PART = (545, 112, 1698, 762)  # right of the two side bars, below the tool bar, above the zoom buttons
INK = 200  # grey level below which a pixel belongs to the graph and not to the dotted background
MARGIN = 60
T = TypeVar("T")


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", help=f"the program to use (default: the first of {', '.join(BROWSERS)})")
    parser.add_argument("--into", type=Path, default=DOCS, help="folder of the two pictures (default: docs)")
    options = parser.parse_args()
    try:
        program = find_browser(options.browser)
        store = open_store()
        report = store.open(store.resolve("leaderboard/all")).path("index.html")
        options.into.mkdir(parents=True, exist_ok=True)
        with browser(program) as page:
            save(photograph(page, report.as_uri(), (1200, 1600), "document.images.length"), options.into / "report.png")
            with interface() as url:
                address = f"{url}/asset-groups?expanded={GROUPS}"
                shot = photograph(page, address, GRAPH_WINDOW, "document.body.innerText.includes('leaderboard')")
            save(trim(shot), options.into / "asset_graph.png")
    except WorldlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def find_browser(name: str | None) -> str:
    """The path of `name`, or of the first browser known. Raises UsageError when there is none."""
    for candidate in [name] if name else BROWSERS:
        if found := shutil.which(candidate):
            return found
    raise UsageError(f"No browser '{name or BROWSERS[0]}' found: install chromium, or name one with --browser PATH")


@contextmanager
def browser(program: str) -> Iterator[ClientConnection]:
    """A browser without a window for as long as the context lasts; yields the line to its one page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *QUIET, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _wait(process, lambda: (Path(profile) / "DevToolsActivePort").read_text().split()[0])
            pages = _wait(process, lambda: json.loads(_get(f"http://127.0.0.1:{port}/json/list")))
            line = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(line, max_size=None, proxy=None) as page:
                yield page
        finally:
            _end(process)


@contextmanager
def interface() -> Iterator[str]:
    """Dagster's UI on a free port for as long as the context lasts; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "assets.launch", "ui", "--port", str(port)], cwd=DOCS.parent)
    try:
        _wait(process, lambda: _get(f"{url}/server_info"))
        yield url
    finally:
        _end(process)


def photograph(page: ClientConnection, url: str, size: tuple[int, int], ready: str) -> Image.Image:
    """A picture of `url` once the expression `ready` is true there, and everything has had 5 s to settle."""
    device = {"width": size[0], "height": size[1], "deviceScaleFactor": SCALE, "mobile": False}
    _ask(page, "Emulation.setDeviceMetricsOverride", **device)
    _ask(page, "Page.navigate", url=url)
    until = time.monotonic() + PATIENCE
    while not _ask(page, "Runtime.evaluate", expression=f"Boolean({ready})")["result"].get("value"):
        if time.monotonic() > until:
            raise WorldlineError(f"{url} was not drawn within {PATIENCE:.0f} s: run this again on a quieter machine")
        time.sleep(0.5)
    time.sleep(5)
    shot = _ask(page, "Page.captureScreenshot", format="png")
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def trim(shot: Image.Image) -> Image.Image:
    """The graph alone, out of a picture of the whole page."""
    left, top, right, bottom = (SCALE * edge for edge in GRAPH_PART)
    graph = shot.crop((left, top, right, bottom))
    box = graph.convert("L").point(lambda level: 255 * (level < INK)).getbbox()
    if box is None:
        raise WorldlineError("The page shows no graph: run this again on a quieter machine")
    left, top, right, bottom = box
    wider = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
    return graph.crop((max(wider[0], 0), max(wider[1], 0), min(wider[2], graph.width), min(wider[3], graph.height)))


def save(shot: Image.Image, path: Path) -> None:
    """Write a picture with few colours: a third of the bytes, and none missed in plots and text."""
    shot.quantize(128).save(path, optimize=True)
    print(f"{path}: {shot.width} x {shot.height}, {path.stat().st_size:,} bytes")


_numbers = itertools.count(1)


def _ask(page: ClientConnection, method: str, **arguments: Any) -> dict[str, Any]:
    """One command of the browser's protocol, and its answer."""
    number = next(_numbers)
    page.send(json.dumps({"id": number, "method": method, "params": arguments}))
    while (answer := json.loads(page.recv(timeout=PATIENCE))).get("id") != number:
        continue
    if "error" in answer:
        raise WorldlineError(f"The browser refused {method} ({answer['error']['message']}): try another with --browser")
    return answer["result"]


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return reply.read()


def _wait(process: subprocess.Popen[bytes], look: Callable[[], T]) -> T:
    """What `look` returns once it stops failing for want of a file or a listener."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError, IndexError):
            return look()
        time.sleep(0.3)
    how = f"ended with exit code {process.returncode}" if process.poll() is not None else "did not answer"
    raise WorldlineError(f"{' '.join(map(str, process.args[:4]))} ... {how}: start it by hand to see why")  # type: ignore[index]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    process.kill()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
