"""The tree from manifests: shared ancestors once, pins compared, circles and missing parents found."""

import dataclasses
import json

import pytest

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import edges, flat, walk, walk_all
from pipelines.store.manifest import MANIFEST_NAME, ParentEntry
from pipelines.store.ref import Ref
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
