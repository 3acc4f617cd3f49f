"""Photograph the asset graph in Dagster's UI and the leaderboard page, as docs/asset_graph.png and docs/report.png.

Shows what lies in WORLDLINE_HOME, so run `make demo` first. Needs Chromium or Chrome; takes about a minute.
Run: python docs/screenshots.py [--browser PATH] [--into FOLDER]
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from chromium import BROWSERS, Page, browser, end, fetch, find_browser, wait
from PIL import Image

from pipelines.errors import WorldlineError
from pipelines.home import open_store

DOCS = Path(__file__).resolve().parent
# The UI's own names of the open groups, as its address carries them.
GROUPS = ",".join(quote(f"global@global:{group}") for group in ("data", "learning", "evaluation"))
# From replay, or videos, to the leaderboard. What comes from elsewhere in their place would make the picture illegible.
CHAIN = (
    "collected_replay", "replay", "trajectories", "segments", "pretrained", "tokens", "world_action_model", "videos",
    "video_pretrained", "world_model_agent", "scores", "leaderboard",
)  # fmt: skip
SCALE = 2  # pixels of the picture per pixel of the page
GRAPH_WINDOW = (1700, 1500)
GRAPH_PART = (545, 112, 1698, 1160)  # right of the two side bars, below the tool bar, above the zoom buttons
INK = 200  # grey level below which a pixel belongs to the graph and not to the dotted background
MARGIN = 60


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
        with browser(program) as opened:
            page = opened.page
            save(photograph(page, report.as_uri(), (1200, 1600), "document.images.length"), options.into / "report.png")
            with interface() as url:
                chosen = quote(" or ".join(f'key:"{stage}"' for stage in CHAIN))
                address = f"{url}/asset-groups~{chosen}?expanded={GROUPS}"
                shot = photograph(page, address, GRAPH_WINDOW, "document.body.innerText.includes('leaderboard')")
            save(trim(shot), options.into / "asset_graph.png")
    except WorldlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


@contextmanager
def interface() -> Iterator[str]:
    """Dagster's UI on a free port for as long as the context lasts; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "assets.launch", "ui", "--port", str(port)], cwd=DOCS.parent)
    try:
        wait(process, lambda: fetch(f"{url}/server_info"))
        yield url
    finally:
        end(process)


def photograph(page: Page, url: str, size: tuple[int, int], ready: str) -> Image.Image:
    """A picture of `url` once the expression `ready` is true there, and everything has had 5 s to settle."""
    page.size(*size, scale=SCALE)
    page.open(url)
    page.wait(ready)
    time.sleep(5)
    return page.shot()


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


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
