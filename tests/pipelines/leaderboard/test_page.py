"""Pictures in the page, those that are too large to embed, and the page in a real browser."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from docs.chromium import Page, browser
from pipelines.leaderboard import page
from pipelines.leaderboard import page as wording
from pipelines.stages import report
from pipelines.stages.report import ReportConfig
from tests.pipelines.leaderboard import board
from tests.pipelines.leaderboard.test_figures import real_film

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0"),
        (20.25, "20.25"),
        (-3.5, "\N{MINUS SIGN}3.5"),
        (1234567.0, "1,234,567"),
        (9999.7, "10,000"),
        (0.00001234, "1.234e\N{MINUS SIGN}05"),
    ],
)
def test_num(value, text):
    assert wording.num(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\N{EN DASH}"), (0.04, "0.0 s"), (61.0, "61.0 s"), (100.0, "1 min 40 s"), (7260.0, "2 h 01 min")],
)
def test_clock(seconds, text):
    assert wording.clock(seconds) == text


def test_percent_and_whole():
    assert wording.percent(-0.051) == "\N{MINUS SIGN}5%" and wording.percent(None) == "\N{EN DASH}"
    assert wording.whole(30000) == "30,000" and wording.whole(None) == "\N{EN DASH}"


def test_megabytes():
    assert [wording.megabytes(value) for value in (0.0, 0.004, 0.005, 1234.567)] == [
        "0.00",
        "< 0.01",
        "0.01",
        "1,234.57",
    ]
    assert wording.megabytes(None) == "\N{EN DASH}"


def test_scores_and_their_intervals():
    assert [wording.fixed(value) for value in (None, 1.1951, -0.05, 1234.5)] == [
        "\N{EN DASH}",
        "1.195",
        "\N{MINUS SIGN}0.050",
        "1,234.500",
    ]
    assert wording.ranged(0.847, 0.79, 0.908, wording.fixed) == "0.847 [0.790, 0.908]"
    assert wording.ranged(20.25, None, None, wording.num) == "20.25"
    assert wording.ranged(None, 1.0, 2.0, wording.num) == "\N{EN DASH}"


def test_a_rank_is_a_range_where_intervals_overlap():
    assert [wording.ranking(rank) for rank in (None, (3, 3), (1, 2))] == ["", "3", "1 to 2"]


def test_large_picture_is_named_not_embedded(tmp_path):
    path = tmp_path / "play.gif"
    path.write_bytes(b"GIF89a" + bytes(page.EMBED_UP_TO))
    found = page.picture(path, "alt", "demo plays Pong")
    assert found.source == "" and "3.1 MB, see play.gif" in found.caption
    path.write_bytes(b"GIF89a")
    assert page.picture(path, "alt", "x").source == "data:image/gif;base64,R0lGODlh"
    assert page.picture(path, "alt", "x", up_to=5).source == ""


class Tab:
    """The page in a browser, with windows of that width."""

    def __init__(self, page: Page, path: Path, width: int) -> None:
        self.page = page
        page.size(width, 800, touch=True)
        page.open(path.as_uri())
        page.wait("document.readyState === 'complete' && document.querySelector('thead button') !== null", 20)

    def value(self, expression: str) -> Any:
        found = self.page.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def soon(self, expression: str) -> bool:
        """Whether it becomes true within twenty seconds."""
        self.page.wait(expression, 20)
        return True


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_the_page_in_a_real_browser(tmp_path):
    graph = board.build(board.Store(tmp_path / "store"))
    film = real_film(tmp_path)

    def played(draft):
        board.score_files("Boxing")(draft)
        for name in ("best.mp4", "median.mp4", "worst.mp4"):
            draft.path(name).write_bytes(film)

    metrics = {"greedy": board.summary(board.RETURNS["Boxing"])}
    filmed = board.make(
        graph.store, "scores", "Boxing", (graph.agent.ref,), played, metrics=metrics, config={"seed": 9}
    )
    scores = (*(score.ref for score in graph.scores.values()), filmed.ref)
    made = report.run(ReportConfig(scores=scores, names=("demo-1a2b3c4d",) * 3), graph.store).artefact
    with browser(BROWSER) as opened:
        tab_page = opened.page
        for width in (360, 1200):
            tab = Tab(tab_page, made.path("index.html"), width)
            assert tab.value("document.documentElement.scrollWidth") <= width, "the body never scrolls sideways"
            assert tab.value("performance.getEntriesByType('resource').every(one => one.name.startsWith('data:'))")
            assert tab.value("[...document.images].every(image => image.naturalWidth > 0)")
            tab.value("document.querySelector('video').play()")
            assert tab.soon("document.querySelector('video').currentTime > 0"), "a film plays"
            assert tab.value("document.querySelectorAll('.instead:not([hidden])').length") == 0
        table = "[...document.querySelectorAll('table.sort')].find(one => one.tHead.innerText.startsWith('Game'))"
        names = f"[...({table}).tBodies[0].rows].map(row => row.cells[0].dataset.v)"
        button = f"({table}).tHead.rows[0].cells[0].querySelector('button')"
        before = tab.value(names)
        tab.value(f"{button}.focus()")
        assert tab.value("document.activeElement.tagName") == "BUTTON", "headings are reached by keyboard"
        tab.value(f"{button}.click()")
        assert tab.value(f"({table}).tHead.rows[0].cells[0].ariaSort") == "descending"
        assert tab.value(names) == sorted(before, reverse=True)
        tab.value(f"{button}.click()")
        assert tab.value(names) == sorted(before)
        tab.value("document.querySelector('td a, th a').click()")
        assert tab.soon("document.querySelector(location.hash).closest('details').open"), "a row leads to its lineage"
        deaf = "HTMLMediaElement.prototype.canPlayType = () => ''"
        tab_page.ask("Page.enable")
        tab_page.ask("Page.addScriptToEvaluateOnNewDocument", source=deaf)
        tab = Tab(tab_page, made.path("index.html"), 360)
        assert tab.value("document.querySelectorAll('video').length") == 0, (
            "without VP9 an animation or a still is shown"
        )
        assert tab.value("[...document.querySelectorAll('.instead')].map(one => one.hidden)") == [False] * 3
