"""The tree from manifests, shared ancestors once, every pin compared; any altered byte is found; views escape all."""

import dataclasses
import io
import json
import shutil
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import (
    LONGEST_VALUE,
    MOST_ROOTS,
    Fault,
    Node,
    edges,
    flat,
    to_html,
    to_json,
    to_tree,
    verify,
    walk,
    walk_all,
)
from pipelines.store.manifest import MANIFEST_NAME, ParentEntry
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests import fakes


def rewrite(artefact: Artefact, **fields: object) -> None:
    manifest = dataclasses.replace(artefact.manifest, **fields)  # type: ignore[arg-type]
    (artefact.folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())


def test_a_shared_ancestor_is_listed_once_and_reached_by_every_edge(store: Store) -> None:
    made = fakes.chain(store)
    top = walk(store, made["scores"].ref)
    assert [parent.ref.stage for parent in top.parents] == ["trajectories", "tokens"]
    assert top.parents[0].parents == top.parents[1].parents
    assert [node.ref.stage for node in flat(top)] == ["scores", "trajectories", "tokens", "replay", "collected_replay"]
    assert len(list(edges(top))) == 6  # the top, and one for each of the five parent entries
    assert not any(node.fault for node in edges(top))
    assert flat(top)[-1].artefact == made["collected_replay"] and flat(top)[-1].parents == ()


def test_several_trees_are_those_that_each_alone_is(store: Store) -> None:
    made = fakes.chain(store)
    refs = [made["scores"].ref, made["tokens"].ref]
    several = walk_all(store, refs)
    assert several == [walk(store, ref) for ref in refs]
    assert several[0].parents[1].parents is several[1].parents, "what they share is read once"
    with pytest.raises(WorldlineError, match="not in the store"):
        walk_all(store, [*refs, Ref("scores", "Pong", "0" * 16)])


def test_many_layers_of_shared_parents_stay_small(store: Store) -> None:
    layer = [fakes.make(store, "replay", seed=seed).ref for seed in (0, 1)]
    for depth in range(16):  # 2**16 ways to the bottom
        layer = [fakes.make(store, "tokens", tuple(layer), depth=depth, seed=seed).ref for seed in (0, 1)]
    top = walk(store, layer[0])
    assert len(flat(top)) == 33 and len(list(edges(top))) == 1 + 31 * 2


def test_a_parent_made_anew_differs_from_what_was_pinned(store: Store) -> None:
    made = fakes.chain(store)
    rewrite(made["replay"], created="2001-01-01T00:00:00Z")
    faults = [node for node in edges(walk(store, made["scores"].ref)) if node.fault]
    assert [node.ref for node in faults] == [made["replay"].ref] * 2  # both children pinned the old one
    children = {str(made["trajectories"].ref), str(made["tokens"].ref)}
    assert {node.fault.split()[4] for node in faults} == children
    assert made["replay"].digest[:12] in faults[0].fault


def test_missing_and_damaged_parents_are_nodes_with_a_fault(store: Store) -> None:
    made = fakes.chain(store)
    (made["trajectories"].folder / MANIFEST_NAME).unlink()
    (made["tokens"].folder / MANIFEST_NAME).write_text("{")
    top = walk(store, made["scores"].ref)
    assert [node.artefact for node in top.parents] == [None, None]
    assert "missing from the store" in top.parents[0].fault
    assert "not a readable manifest" in top.parents[1].fault


def test_an_unknown_or_damaged_top_is_an_error(store: Store) -> None:
    with pytest.raises(WorldlineError, match="is not in the store"):
        walk(store, Ref("scores", "Freeway", "0" * 16))
    made = fakes.make(store, "scores")
    (made.folder / MANIFEST_NAME).write_text(json.dumps([]))
    with pytest.raises(WorldlineError, match="not a readable manifest"):
        walk(store, made.ref)


def test_a_forged_circle_ends_in_an_error(store: Store) -> None:
    made = fakes.chain(store)
    rewrite(made["collected_replay"], parents=(ParentEntry(str(made["scores"].ref), "f" * 64),))
    with pytest.raises(WorldlineError, match="runs in a circle through scores/Freeway"):
        walk(store, made["scores"].ref)


# ---- verification finds any altered byte anywhere in the tree and names the file ----
STAGES = ("collected_replay", "replay", "trajectories", "tokens", "scores")


def test_a_sound_lineage_has_no_faults(store: Store) -> None:
    assert verify(store, fakes.chain(store)["scores"].ref) == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STAGES), st.sampled_from(["data.bin", "sub/more.bin"]), st.integers(0, 2))
def test_one_flipped_byte_anywhere_names_the_file(store: Store, stage: str, name: str, at: int) -> None:
    made = fakes.chain(store)
    path = made[stage].path(name)
    fakes.flip_byte(path, at)
    assert verify(store, made["scores"].ref) == [Fault(made[stage].ref, f"{path}: sha256 differs from the manifest")]
    fakes.flip_byte(path, at)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(STAGES[:-1]), st.data())
def test_one_flipped_byte_in_an_ancestors_manifest_is_found(store: Store, stage: str, data: st.DataObject) -> None:
    made = fakes.chain(store)
    path = made[stage].folder / MANIFEST_NAME
    at = data.draw(st.integers(0, path.stat().st_size - 1))
    fakes.flip_byte(path, at)
    try:
        assert made[stage].ref in {fault.ref for fault in verify(store, made["scores"].ref)}
    finally:
        fakes.flip_byte(path, at)


def test_an_edited_config_at_the_top_does_not_give_its_key(store: Store) -> None:
    made = fakes.make(store, "scores", protocol="sticky")
    path = made.folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"sticky"', b'"jowa"'))
    (fault,) = verify(store, made.ref)
    assert str(path) in fault.detail and "give the key" in fault.detail


def test_a_changed_count_at_the_top_differs_from_what_its_name_recorded(store: Store) -> None:
    made = fakes.make(store, "scores")
    store.point("scores/demo/Freeway", made.ref)
    assert verify(store, made.ref) == []
    path = made.folder / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"rows": 3', b'"rows": 4'))
    (fault,) = verify(store, made.ref)
    assert fault.detail == f"{path}: sha256 differs from what the name 'scores/demo/Freeway' recorded"


def test_a_part_that_is_not_what_its_files_are_is_named(store: Store) -> None:
    made = store.produce(fakes.spec("pretrained"), fakes.with_parts(tokenizer="codes")).artefact
    part = made.manifest.parts["tokenizer"]
    rewrite(made, parts={"tokenizer": dataclasses.replace(part, sha256="0" * 64)})
    (fault,) = verify(store, made.ref)
    assert fault.detail.endswith("manifest.json: part 'tokenizer' has another hash than its files give")


def test_an_extra_file_and_a_removed_one_are_both_named(store: Store) -> None:
    made = fakes.chain(store)
    extra = made["tokens"].folder / "sub" / "0.0.7"
    extra.write_text("a chunk that no stage wrote")
    made["replay"].path("data.bin").unlink()
    faults = [str(fault) for fault in verify(store, made["scores"].ref)]
    assert faults == [
        f"{made['tokens'].ref}: {extra}: not in the manifest",
        f"{made['replay'].ref}: {made['replay'].path('data.bin')}: missing",
    ]


def test_a_missing_ancestor_is_one_fault_however_many_use_it(store: Store) -> None:
    made = fakes.chain(store)
    shutil.rmtree(made["replay"].folder)
    (fault,) = verify(store, made["scores"].ref)
    assert fault.ref == made["replay"].ref and "missing from the store" in fault.detail
    with pytest.raises(WorldlineError, match="is not in the store"):
        verify(store, Ref("scores", "Pong", "0" * 16))


def test_number_like_keys_in_a_config_verify(store: Store) -> None:
    made = fakes.make(store, "tokens", by_game={2: 0.5, 10: 0.25}, pair=(1, 2))
    assert verify(store, made.ref) == []


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
