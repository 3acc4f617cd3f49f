"""The page in a real Chromium: every mode, keys, touch, recording, reload, two viewers, a line that is lost."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from docs.chromium import Browser, Page, browser, find_browser
from pipelines.errors import UsageError
from tests.fakes import ROOT
from tests.pipelines.play.fakes import ACTIONS, NAMES, FakeMode
from tests.pipelines.play.served import Served, page, serving

try:
    PROGRAM = find_browser(None)
except UsageError as error:
    PROGRAM = ""
    WHY = str(error)
else:
    WHY = ""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAM, reason=WHY)]

SOON = 90.0  # seconds
ERRORS = """window.wrong = [];
const listen = (what, told) => addEventListener(what, (event) => wrong.push(String(told(event))));
listen("error", (event) => event.message);
listen("unhandledrejection", (event) => event.reason);
listen("securitypolicyviolation", (event) => `policy: ${event.blockedURI} ${event.violatedDirective}`);"""
CONTRAST = """(() => {
  const line = (each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
    .reduce((sum, each, at) => sum + line(each / 255) * [0.2126, 0.7152, 0.0722][at], 0);
  const clear = (one) => /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(one).backgroundColor);
  const behind = (one) => { while (clear(one)) one = one.parentElement; return getComputedStyle(one).backgroundColor; };
  const texts = document.querySelectorAll("h1, h2, dt, dd, button:enabled, kbd, figcaption, #link, label");
  return Math.min(...[...texts].filter((one) => one.checkVisibility()).map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05); }));
})()"""  # the least ratio of WCAG 2 between text and what is behind it
KEYS = {" ": "FIRE", "w": "UP", "d": "RIGHT", "a": "LEFT", "s": "DOWN", "t": "UPRIGHT", "r": "UPLEFT"}
KEYS |= {"ArrowUp": "UPFIRE", "ArrowDown": "DOWNFIRE", "ArrowLeft": "LEFT", "u": "UPRIGHT", "y": "UPLEFT"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser(PROGRAM) as opened:
        opened.page.ask("Page.enable")
        opened.page.ask("Page.addScriptToEvaluateOnNewDocument", source=ERRORS)
        yield opened


@contextmanager
def opened(chromium: Browser, **how: Any) -> Iterator[tuple[Page, Served]]:
    """The page of a server of fakes, which ends without an error in it."""
    with serving(**how) as served:
        shown = chromium.page
        shown.size(1280, 900)
        shown.open(served.port.url())
        ready(shown)
        yield shown, served
        assert shown.get("wrong") == []
        shown.open("about:blank")


def ready(shown: Page) -> None:
    shown.wait("document.querySelector('#facts dd') && !document.body.classList.contains('lost')", SOON)


def mode(shown: Page, name: str) -> None:
    """Switch, by the key of its place."""
    shown.key(str(NAMES.index(name) + 1))
    shown.wait(f"document.querySelectorAll('#modes button')[{NAMES.index(name)}].ariaPressed === 'true'", SOON)


def fact(name: str) -> str:
    """An expression: what stands in the header under that name."""
    row = f"[...document.querySelectorAll('#facts dt')].find((each) => each.textContent === '{name}')"
    return f"{row}?.nextSibling.textContent"


def text(selector: str) -> str:
    return f"document.querySelector('{selector}').textContent"


def stands(shown: Page) -> None:
    """Pause, and wait until nothing moves."""
    shown.key(".")
    shown.wait(f"{text('#pause')} === 'Go on'", SOON)
    time.sleep(0.3)


@pytest.mark.parametrize("name", NAMES)
def test_every_mode_is_drawn_pixel_by_pixel(chromium: Browser, name: str) -> None:
    with opened(chromium) as (shown, served):
        mode(shown, name)
        shown.wait(f"Number({fact('step')}) > 2", SOON)
        stands(shown)
        with page(served) as other:
            other.until(lambda: other.shown)
            pixels = "[...document.querySelectorAll('canvas')].map((each) => Array.from(each.getContext('2d')"
            pixels += ".getImageData(0, 0, each.width, each.height).data))"
            drawn = shown.get(pixels)
            titles = shown.get("[...document.querySelectorAll('figcaption')].map((each) => each.textContent)")
            assert titles == [each["title"] for each in other.head["pictures"]]
            for flat, picture in zip(drawn, other.shown, strict=True):
                assert flat[0::4] == (picture if picture.ndim == 2 else picture[..., 0]).ravel().tolist()
                assert flat[2::4] == (picture if picture.ndim == 2 else picture[..., 2]).ravel().tolist()
                assert set(flat[3::4]) == {255}
            assert shown.get(fact("step")) == str(other.head["step"])
        canvases = "[...document.querySelectorAll('canvas')]"
        sizes = "[each.clientWidth / each.width, each.clientHeight / each.height]"
        scales = f"{canvases}.map((each) => {sizes})"
        assert all(wide == high == int(wide) >= 1 for wide, high in shown.get(scales))
        smooth = f"{canvases}.map((each) => getComputedStyle(each).imageRendering)"
        assert set(shown.get(smooth)) == {"pixelated"}
        assert shown.get(
            "document.querySelectorAll('#bars li').length * !document.querySelector('#values').hidden"
        ) == (0 if name in ("dream", "versus", "game") else len(ACTIONS))


def test_keys_mean_what_the_originals_mean(chromium: Browser) -> None:
    with opened(chromium) as (shown, served):
        played = served.opened[0].played  # type: ignore[attr-defined]
        for key, name in KEYS.items():
            shown.key(key, up=False)
            shown.wait(f"{fact('action')}.replace(/[ +]/g, '').toUpperCase() === '{name}'", SOON)
            shown.key(key, down=False)
            shown.wait(f"{fact('action')} === 'noop'", SOON)
        played.clear()
        for key in ("j", "h", "g", "x"):  # no such action in this game, no such key
            shown.key(key)
        time.sleep(0.3)
        assert set(played) <= {None}
        shown.key("w", up=False)
        shown.key("d", up=False)
        shown.wait(f"{fact('action')} === 'up right'", SOON)
        shown.key("d", down=False)
        shown.wait(f"{fact('action')} === 'up'", SOON)
        shown.get("window.dispatchEvent(new Event('blur'))")
        shown.wait(f"{fact('action')} === 'noop'", SOON)


def test_a_short_press_is_played_once(chromium: Browser) -> None:
    with opened(chromium) as (shown, served):
        stands(shown)
        played = served.opened[0].played  # type: ignore[attr-defined]
        played.clear()
        shown.key("w")
        shown.key("n")
        shown.wait(f"{fact('action')} === 'up'", SOON)
        shown.key("n")
        shown.wait(f"{fact('action')} === 'noop'", SOON)
        assert played == [2, None]


def test_controls_by_key(chromium: Browser) -> None:
    with opened(chromium) as (shown, _):
        stands(shown)
        step = int(shown.get(fact("step")))
        shown.key("n")
        shown.wait(f"{fact('step')} === '{step + 1}'", SOON)
        shown.key("Enter")
        shown.wait(f"{fact('step')} === '0'", SOON)
        for _ in range(3):
            shown.key("+")
            time.sleep(0.1)
        shown.wait(f"{text('#pace')} === '18 steps/s'", SOON)
        shown.key("-")
        shown.wait(f"{text('#pace')} === '17 steps/s'", SOON)
        legend = shown.get("document.querySelector('#keys').innerText")
        assert "W up\n" in legend and "\u2191 up + fire" in legend and "Return reset" in legend
        shown.key("?")
        shown.wait("!document.querySelector('#legend').open", SOON)
        shown.key(".")
        shown.wait(f"Number({fact('step')}) > 3", SOON)


def test_the_keyboard_alone_reaches_everything_and_fires_no_shot_there(chromium: Browser) -> None:
    with opened(chromium) as (shown, served):
        reached = set()
        for _ in range(30):
            shown.key("Tab")
            reached.add(shown.get("document.activeElement.id || document.activeElement.textContent.trim()"))
        controls = {"stage", "pause", "step", "reset", "record", "ask", "speed", "Episodes", "Agent in the game"}
        assert controls <= reached
        while shown.get("document.activeElement.id") != "pause":
            shown.key("Tab")
        played = served.opened[0].played  # type: ignore[attr-defined]
        played.clear()
        shown.key(" ")
        shown.wait(f"{text('#pause')} === 'Go on'", SOON)
        assert 1 not in played
        assert shown.get("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_all_that_can_be_reached_has_a_name_and_text_stands_out(chromium: Browser) -> None:
    with opened(chromium) as (shown, _):
        mode(shown, "episodes")
        tree = shown.ask("Accessibility.getFullAXTree")["nodes"]
        reached = [
            each
            for each in tree
            if {"name": "focusable", "value": {"type": "booleanOrUndefined", "value": True}}
            in each.get("properties", [])
        ]
        assert len(reached) > 15
        assert not [each for each in reached if not each["name"]["value"]]
        for scheme in ("light", "dark"):
            for more in ("no-preference", "more"):
                features = [
                    {"name": "prefers-color-scheme", "value": scheme},
                    {"name": "prefers-contrast", "value": more},
                ]
                shown.ask("Emulation.setEmulatedMedia", features=features)
                assert shown.get(CONTRAST) >= (7 if more == "more" else 4.5), (scheme, more)
        shown.ask("Emulation.setEmulatedMedia", features=[])


def test_fingers_play(chromium: Browser) -> None:
    with opened(chromium) as (shown, _):
        shown.size(390, 844, 2, touch=True)
        shown.wait("document.querySelector('#pads').checkVisibility()", SOON)
        up, right = "#compass button:nth-child(2)", "#compass button:nth-child(6)"
        shown.get("document.querySelector('#pads').scrollIntoView()")
        shown.touch(up)
        shown.wait(f"{fact('action')} === 'up'", SOON)
        shown.touch(up, right)
        shown.wait(f"{fact('action')} === 'up right'", SOON)
        shown.touch()
        shown.wait(f"{fact('action')} === 'noop'", SOON)
        shown.touch("#fire")
        shown.wait(f"{fact('action')} === 'fire'", SOON)
        shown.touch()
        shown.wait(f"{fact('action')} === 'noop'", SOON)
        assert shown.get("document.querySelector('#compass button:nth-child(7)').disabled"), "no down left here"
        assert shown.get("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs over the side"
        shown.size(1280, 900)


def test_recording_by_key_and_the_question_at_the_end(chromium: Browser) -> None:
    def short(name: str, *_: object) -> FakeMode:
        return FakeMode(name, ends=30)

    with opened(chromium, opened=short) as (shown, served):
        shown.key(",")
        shown.wait(f"{text('#record')} === 'Stop recording'", SOON)
        time.sleep(0.3)
        shown.key(",")
        shown.wait(f"{text('#notes')}.includes('Kept as recordings/fake-')", SOON)
        for key, kept in (("y", 2), ("n", 2)):
            shown.get("document.querySelector('#ask').checked || document.querySelector('#ask').click()")
            shown.wait("document.querySelector('#keep').open", SOON)
            shown.key(key)
            shown.wait("!document.querySelector('#keep').open", SOON)
            assert len(served.log) == kept


def test_episodes_are_browsed(chromium: Browser) -> None:
    with opened(chromium) as (shown, _):
        mode(shown, "episodes")
        stands(shown)
        shown.key(" ")
        shown.wait(f"{fact('step')} === '0'", SOON)
        for key, where in (("ArrowRight", 1), ("PageUp", 11), ("ArrowLeft", 10), ("PageDown", 0), ("ArrowLeft", 0)):
            shown.key(key)
            shown.wait(f"{fact('step')} === '{where}'", SOON)
        shown.key("ArrowUp")
        shown.wait(f"{text('#which')}.startsWith('episode 2 of 3, step 0 of 6')", SOON)
        shown.key("ArrowUp")
        shown.wait(f"{text('#which')}.startsWith('episode 3 of 3')", SOON)
        shown.key("ArrowDown")
        shown.wait(f"{text('#which')}.startsWith('episode 2 of 3')", SOON)
        shown.get("document.querySelector('#at').focus()")
        shown.key("End")
        shown.wait(f"{fact('step')} === '6' && {fact('end')} === 'yes'", SOON)
        shown.get("document.querySelector('#stage').focus()")
        shown.key("y")
        shown.wait(f"{text('#which')}.startsWith('episode 1 of 1, step 0 of 4')", SOON)
        shown.click("#dream")
        shown.wait("document.querySelectorAll('#modes button')[1].ariaPressed === 'true'", SOON)
        assert shown.get("document.querySelector('#scrub').hidden && document.activeElement.id === 'stage'")


def test_a_reload_goes_on_where_it_was(chromium: Browser) -> None:
    with opened(chromium) as (shown, _):
        mode(shown, "game")
        shown.wait(f"Number({fact('step')}) > 2", SOON)
        stands(shown)
        before = shown.get(fact("step"))
        shown.ask("Page.reload")
        time.sleep(0.5)
        ready(shown)
        shown.wait(f"{fact('step')} === '{before}' && {text('#pause')} === 'Go on'", SOON)
        assert shown.get("document.querySelector('#take').hidden")
        shown.key(".")
        shown.wait(f"Number({fact('step')}) > {before}", SOON)


def test_two_pages_watch_and_one_plays(chromium: Browser) -> None:
    with opened(chromium) as (shown, served), chromium.window() as other:
        other.open(served.port.url())
        ready(other)
        other.wait("!document.querySelector('#take').hidden && document.querySelector('#pause').disabled", SOON)
        assert "another page plays" in other.get(text("#people"))
        shown.wait(f"{text('#people')} === '2 watching; you play'", SOON)
        other.key(".")
        other.key("w")
        time.sleep(0.3)
        assert shown.get(text("#pause")) == "Pause"
        other.click("#take")
        other.wait("document.querySelector('#take').hidden", SOON)
        other.key(".")
        for each in (shown, other):
            each.wait(f"{text('#pause')} === 'Go on'", SOON)
        assert shown.get(fact("step")) == other.get(fact("step"))


def test_a_lost_line_is_said_and_comes_back(chromium: Browser) -> None:
    shown = chromium.page

    def program(port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tests.pipelines.play.fakes", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        return process, process.stdout.readline().split()[3]

    first, url = program(0)
    try:
        shown.open(url)
        ready(shown)
        first.kill()
        first.wait()
        shown.wait(
            f"document.body.classList.contains('lost') && {text('#link')} === 'connection lost, trying again'", SOON
        )
        again, _ = program(int(url.split(":")[2].strip("/")))
        try:
            ready(shown)
            shown.wait(f"Number({fact('step')}) > 3 && {text('#link')} === 'connected'", SOON)
            assert shown.get("wrong") == []
        finally:
            again.kill()
            again.wait()
    finally:
        first.kill()
        shown.open("about:blank")
