"""Terminal, JSON and HTML views: down to ROM, policy and seeds; shared nodes once; everything escaped."""

import io
import json
from html.parser import HTMLParser

from rich.console import Console

from pipelines.store.lineage import Node, walk
from pipelines.store.lineage_tree import LONGEST_VALUE, MOST_ROOTS, to_html, to_json, to_tree
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests import fakes


def printed(top: Node) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(to_tree(top))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_tree_reaches_rom_policy_seeds_and_emulator(store: Store) -> None:
    made = fakes.chain(store)
    text = printed(walk(store, made["scores"].ref))
    assert text.splitlines()[0].startswith(f"{made['scores'].ref}  3 rows, 0.0 kB, ")
    for fact in (
        "rom_md5 8e0ab801b1705a740b476b7f588c6d16",
        "policy script",
        "seeds 0, 1",
        "ale_py 0.12.1",
        "30,000 frames",
    ):
        assert text.count(fact) == 1
    assert text.count(str(made["replay"].ref)) == 2 and text.count("(see above)") == 1
    assert "missing" not in text


def test_faults_are_shown_in_every_view(store: Store) -> None:
    made = fakes.chain(store)
    (made["collected_replay"].folder / "manifest.json").unlink()
    top = walk(store, made["scores"].ref)
    assert "missing from the store" in " ".join(printed(top).split())
    assert "<strong>missing from the store" in to_html(top)
    assert "missing from the store" in json.loads(to_json(top))["artefacts"][-1]["fault"]


def test_every_view_says_which_part_was_read(store: Store) -> None:
    agent = store.produce(fakes.spec("pretrained"), fakes.with_parts(tokenizer="codes", world="dynamics")).artefact
    spec = Spec("tokens", "Freeway", "1", {}, (agent.ref,), ("tokenizer",))
    top = walk(store, store.produce(spec, fakes.fill()).artefact.ref)
    assert "only its tokenizer" in printed(top) and "<span>only its tokenizer</span>" in to_html(top)
    child, parent = json.loads(to_json(top))["artefacts"]
    assert child["parents"][0]["part"] == "tokenizer" and set(parent["parts"]) == {"tokenizer", "world"}


def test_what_another_fragment_wrote_is_only_named(store: Store) -> None:
    top = walk(store, fakes.chain(store)["scores"].ref)
    written: set[Ref] = set()
    first, second = to_html(top, written), to_html(top, written)
    assert first == to_html(top) and len(second) < len(first) / 2
    assert second.count("<li>") == 1 and "(see above)" in second


def test_json_holds_every_artefact_once_with_its_pins(store: Store) -> None:
    made = fakes.chain(store)
    data = json.loads(to_json(walk(store, made["scores"].ref)))
    assert data["top"] == str(made["scores"].ref)
    by_ref = {record["ref"]: record for record in data["artefacts"]}
    assert len(by_ref) == len(data["artefacts"]) == 5
    for artefact in made.values():
        record = by_ref[str(artefact.ref)]
        assert record["manifest_sha256"] == artefact.digest and record["fault"] == ""
        for pin in record["parents"]:
            assert pin["manifest_sha256"] == by_ref[pin["ref"]]["manifest_sha256"]
    assert by_ref[str(made["collected_replay"].ref)]["roots"] == [fakes.COLLECTION_ROOT]


class Outline(HTMLParser):
    """Checks that tags nest, and collects their names and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_a_nested_list_and_escapes_what_it_shows(store: Store) -> None:
    roots = [{"url": "gs://a/<script>alert(1)</script>&b", "note": "[red]x[/]"}]
    collected = store.produce(fakes.spec("replay"), fakes.fill(roots=roots)).artefact
    scores = fakes.make(store, "scores", (collected.ref,))
    top = walk(store, scores.ref)
    text = to_html(top)
    outline = Outline(text)
    assert text.startswith('<ul class="lineage"><li><code>scores/')
    assert set(outline.names) == {"ul", "li", "code", "span"} and outline.names.count("li") == 3
    assert "gs://a/<script>alert(1)</script>&b" in outline.text
    assert "[red]x[/]" in printed(top)  # no markup from data on the terminal either


def test_long_lists_of_roots_and_long_values_are_shortened_but_not_in_json(store: Store) -> None:
    roots = [{"url": f"gs://bucket/{i}", "parts": list(range(1000))} for i in range(MOST_ROOTS + 10)]
    made = store.produce(fakes.spec("replay"), fakes.fill(roots=roots)).artefact
    top = walk(store, made.ref)
    text = printed(top)
    assert "... and 10 more (--json prints all)" in text and f"gs://bucket/{MOST_ROOTS}" not in text
    assert max(map(len, text.splitlines())) < LONGEST_VALUE + 60
    assert json.loads(to_json(top))["artefacts"][0]["roots"] == roots
