"""Photograph the page of play as docs/play_*.png, or measure it: steps a second, the time from a key to its picture.

Shows the experiment `demo` of WORLDLINE_HOME, so run `make demo` first. Needs Chromium or Chrome; takes two minutes.
Run: python docs/play_page.py [--browser PATH] [--into FOLDER] [--measure]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from chromium import BROWSERS, Page, browser, end, find_browser
from PIL import Image
from screenshots import DOCS, save

from pipelines.errors import WorldlineError

SIZE = (1180, 720)
PHONE = (390, 780)
SECONDS = 4.0  # of one measurement of pace
TRIALS = 20
# How long after a key goes down a picture of its action is on the canvas, in ms, by the page's own clock.
LATENCY = """new Promise((done) => {
  const action = () => document.querySelectorAll('#facts dd')[1].textContent;
  const press = (type) => document.body.dispatchEvent(new KeyboardEvent(type, { key: 'd', bubbles: true }));
  const began = performance.now();
  const look = (name, then) => requestAnimationFrame(() => (action() === name ? then() : look(name, then)));
  press('keydown');
  look('right', () => {
    const took = performance.now() - began;
    press('keyup');
    look('noop', () => setTimeout(() => done(took), Math.random() * 100));
  });
})"""


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", help=f"the program to use (default: the first of {', '.join(BROWSERS)})")
    parser.add_argument("--into", type=Path, default=DOCS, help="folder of the pictures (default: docs)")
    parser.add_argument("--measure", action="store_true", help="measure instead")
    options = parser.parse_args()
    try:
        with browser(find_browser(options.browser)) as opened, demo() as (server, url):
            show(opened.page, url)
            if options.measure:
                measure(opened.page, psutil.Process(server.pid))
            else:
                options.into.mkdir(parents=True, exist_ok=True)
                photograph(opened.page, options.into)
    except WorldlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


@contextmanager
def demo() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server of the demo's Boxing on a free port for as long as the context lasts, and its address."""
    command = [sys.executable, "-m", "pipelines.cli", "play", "demo", "--game", "Boxing", "--mode", "agent"]
    command += ["--reconstruction", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, cwd=DOCS.parent, text=True, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        said = server.stdout.readline().partition(" (")[0].split()
        if not said:
            raise WorldlineError("'worldline play demo --game Boxing' did not start: run it by hand to see why")
        yield server, said[-1]
    finally:
        end(server)


def show(page: Page, url: str) -> None:
    """Open the page and wait for its first picture."""
    page.size(*SIZE)
    page.open(url)
    page.wait("document.querySelector('#facts dd')")


def mode(page: Page, name: str) -> None:
    """Switch, and wait until it has begun."""
    button = f"[...document.querySelectorAll('#modes button')].find((each) => each.textContent === {json.dumps(name)})"
    page.get(f"{button}.click()")
    page.wait(f"document.querySelector('#modes [aria-pressed=true]')?.textContent === {json.dumps(name)}")
    time.sleep(2)


def photograph(page: Page, into: Path) -> None:
    """The agent in the light, model against game in the dark, a dream on a phone."""
    until(page, 40)
    save(page.shot(), into / "play_agent.png")
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    mode(page, "Model against game")
    page.key("d", up=False)
    page.wait("document.querySelectorAll('#facts dd')[1].textContent === 'right'")
    save(page.shot(), into / "play_versus.png")
    page.key("d", down=False)
    page.size(*PHONE, scale=1, touch=True)
    mode(page, "You in the world model")
    until(page, 10)
    shot = page.shot()
    save(shot if shot.width <= PHONE[0] else shot.resize(PHONE, Image.Resampling.LANCZOS), into / "play_phone.png")


def until(page: Page, step: int) -> None:
    """Wait for a step of the episode."""
    page.wait(f"Number(document.querySelector('#facts dd').textContent) >= {step}")


def measure(page: Page, server: psutil.Process) -> None:
    """Print a row a mode."""
    names = page.get("[...document.querySelectorAll('#modes button')].map((each) => each.textContent)")
    print("mode, asked steps/s, steps/s, CPU ms of the server a step, key to picture: median and 19th of 20 in ms")
    for name in names:
        mode(page, name)
        for speed in (15, 60):
            page.get(f"(() => {{ const s = document.querySelector('#speed'); s.value = {speed}; s.oninput(); }})()")
            time.sleep(1)
            rate, cost = pace(page, server)
            took = latency(page) if page.get("!document.querySelector('#pads').hidden") else []
            late = f"{statistics.median(took):.0f}, {sorted(took)[-2]:.0f}" if took else "-, -"
            print(f"{name}, {speed}, {rate:.1f}, {cost:.1f}, {late}", flush=True)


def pace(page: Page, server: psutil.Process) -> tuple[float, float]:
    """Steps a second over SECONDS, and milliseconds of CPU that the server took for each."""
    count = "import('./play.js').then((found) => found.shownLast().number)"
    first, began, spent = page.get(count), time.monotonic(), sum(server.cpu_times()[:2])
    time.sleep(SECONDS)
    steps, took = page.get(count) - first, time.monotonic() - began
    return steps / took, 1000 * (sum(server.cpu_times()[:2]) - spent) / max(steps, 1)


def latency(page: Page) -> list[float]:
    """From a key to the picture of its action, TRIALS times, in ms; an episode's end in between may lengthen one."""
    return [page.get(LATENCY) for _ in range(TRIALS)]


if __name__ == "__main__":
    sys.exit(main())
