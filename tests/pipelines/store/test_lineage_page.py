"""The page: a box and a sheet an artefact, faults where they are, nothing unescaped, nothing loaded."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import walk
from pipelines.store.lineage_page import MOST_IN_LAYER, MOST_SHEETS, Drawing, to_page
from pipelines.store.manifest import CheckEntry
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests import fakes

VOID = ("meta", "rect")


class Page(HTMLParser):
    """Checks that tags nest; collects tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.nested: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.nested

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.nested.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.nested.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of that name."""
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(store: Store, ref: Ref) -> Page:
    return Page(to_page(walk(store, ref)))


def many(store: Store, number: int) -> Artefact:
    """A leaderboard of scores that all played one agent."""
    agent = fakes.make(store, "world_action_model")
    scores = [fakes.make(store, "scores", (agent.ref,), seed=seed).ref for seed in range(number)]
    return fakes.make(store, "leaderboard", tuple(scores))


def test_every_artefact_is_drawn_once_and_leads_to_its_manifest(store: Store) -> None:
    made = fakes.chain(store)
    top = walk(store, made["scores"].ref)
    text = to_page(top)
    page = Page(text)
    ids = {each["id"] for _, each in page.tags if "id" in each}
    links = {str(each["href"]) for each in page.of("a")}
    assert len(page.of("rect")) == len(page.of("details")) == 5 and len(page.of("path")) == 5
    assert {link.removeprefix("#") for link in links} == ids, "every link leads somewhere, every sheet is reached"
    for artefact in made.values():
        assert text.count(f"worldline lineage {artefact.ref} --verify") >= 1
        assert artefact.digest in page.text and all(entry.sha256 in page.text for entry in artefact.manifest.files)
    for fact in ("ale_py 0.12.1", '"seed": 0', "30,000 frames", "5 artefacts", "0 faults", "cpu seconds"):
        assert fact in page.text, fact
    assert to_page(walk(store, made["scores"].ref)) == text, "the same tree gives the same bytes"


def test_arrows_lead_from_left_to_right(store: Store) -> None:
    drawing = Drawing(walk(store, fakes.chain(store)["scores"].ref))
    for arrow in drawing.arrows:
        start, *_, end = re.findall(r"(-?\d+) -?\d+", arrow.path)
        assert int(start) < int(end)
    columns = {box.sheet.node.ref.stage: box.x for box in drawing.boxes if box.sheet}
    assert columns["collected_replay"] < columns["replay"] < columns["tokens"] == columns["trajectories"]
    assert max(columns, key=columns.__getitem__) == "scores"


def test_nothing_is_loaded_and_no_script_runs(store: Store) -> None:
    text = to_page(walk(store, fakes.chain(store)["scores"].ref))
    page = Page(text)
    style = re.search("<style>(.*?)</style>", text, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"content=\"default-src 'none'; style-src 'sha256-{digest}'\"" in text
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not any("style" in each or "src" in each for _, each in page.tags)
    assert all(str(each["href"]).startswith("#") for each in page.of("a"))


def test_what_strangers_wrote_is_escaped_and_secrets_are_hidden(store: Store, monkeypatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush-hush-hush")
    evil = "<script>alert(1)</script>&\"'"
    check = CheckEntry(evil, False, True, f"{evil} with hush-hush-hush")
    made = store.produce(fakes.spec(note=evil), fakes.fill(roots=[{"url": evil}], checks=[check])).artefact
    text = to_page(walk(store, made.ref))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") == 4, "config, root, and name and detail of the check"
    assert "hush-hush-hush" not in text and "with ${SOME_TOKEN}" in page.text
    assert "failed, nothing may be made from this" in page.text and 'class="failed top"' in text


def test_faults_are_red_in_graph_and_sheets(store: Store) -> None:
    made = fakes.chain(store)
    (made["collected_replay"].folder / "manifest.json").unlink()
    text = to_page(walk(store, made["scores"].ref))
    assert text.count('<g class="fault">') == text.count('" class="fault"><title>missing') == 1
    assert text.count('<strong class="fault">missing from the store') == 2, (
        "at the artefact, and where its child pins it"
    )
    assert "Its manifest cannot be read." in text and "1 faults" in text


def test_large_graphs_draw_some_and_list_the_rest(store: Store) -> None:
    number = MOST_IN_LAYER + 16
    top = many(store, number)
    last = Ref.parse(top.manifest.parents[-1].ref)
    (store.root / str(last) / "manifest.json").unlink()
    drawing = Drawing(walk(store, top.ref))
    assert [box.more for box in drawing.boxes if box.sheet is None] == [16]
    assert len(drawing.boxes) == MOST_IN_LAYER + 3 and len(drawing.hidden) == 16
    assert last in {box.sheet.node.ref for box in drawing.boxes if box.sheet}, "what has a fault is drawn first"
    page = page_of(store, top.ref)
    assert "and 16 more" in page.text and "16 artefacts are not drawn" in page.text
    assert len(page.of("details")) == number + 2, "all have a sheet"


@pytest.mark.slow
def test_sheets_have_a_limit_and_no_link_leads_nowhere(store: Store, monkeypatch) -> None:
    monkeypatch.setattr("pipelines.store.lineage_page.MOST_SHEETS", 30)
    top = walk(store, many(store, 60).ref)
    page = Page(to_page(top))
    assert len(page.of("details")) == 30 and MOST_SHEETS > 30
    ids = {each["id"] for _, each in page.tags if "id" in each}
    assert all(str(each["href"]).removeprefix("#") in ids for each in page.of("a")), "no link leads nowhere"
    assert all(str(node.ref) in page.text for node in top.parents)


def test_the_command_writes_it_and_refuses_a_folder_in_one_line(
    store: Store, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = fakes.chain(store)["scores"].ref
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    assert run(["lineage", str(ref), "--html", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == to_page(walk(store, ref))
    (tmp_path / "page.html").write_text("mine")
    capsys.readouterr()
    assert run(["lineage", str(ref), "--html", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'page.html'} is there: add --overwrite or choose another --html\n"
    assert (tmp_path / "page.html").read_text() == "mine"
    assert run(["lineage", str(ref), "--html", str(tmp_path / "page.html"), "--overwrite"]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == to_page(walk(store, ref))
    assert not list(tmp_path.glob(".page*"))
    capsys.readouterr()
    assert run(["lineage", str(ref), "--html", "/"]) == 2 and "cannot be written to /" in capsys.readouterr().err
    assert run(["lineage", str(ref), "--html", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"The page cannot be written to {tmp_path} (")
