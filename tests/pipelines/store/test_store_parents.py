"""A child belongs to the bytes of its parents: what was made from others is neither skipped for nor opened."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipelines.errors import MayPass, WorldlineError
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.manifest import MANIFEST_NAME
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests import fakes


def remade(store: Store, artefact: Artefact, text: str, **fields: object) -> Artefact:
    """The artefact deleted, as its damage would have it, and made again at its address."""
    shutil.rmtree(artefact.folder)
    manifest = artefact.manifest
    parents = tuple(Ref.parse(entry.ref) for entry in manifest.parents)
    spec = fakes.spec(manifest.stage, manifest.subject, parents, **manifest.config)
    return store.produce(spec, fakes.fill(text, **fields)).artefact


def test_other_bytes_of_a_parent_are_refused_with_the_repair(store: Store) -> None:
    made = fakes.chain(store)
    remade(store, made["replay"], "other")
    words = r"tokens/\S+ is stale: replay/\S+, its parent, was made again since, and its content was \w+"
    with pytest.raises(WorldlineError, match=words) as caught:
        fakes.make(store, "tokens", (made["replay"].ref,))
    assert "worldline materialize EXPERIMENT --until tokens --remake" in str(caught.value)
    with pytest.raises(WorldlineError, match=words):
        store.open(made["tokens"].ref)
    with pytest.raises(WorldlineError, match=r"replay/\S+, a parent of (trajectories|tokens)/\S+, was made again"):
        store.open(made["scores"].ref)  # two levels above
    assert store.open(made["collected_replay"].ref) == made["collected_replay"]


def test_a_parent_made_again_with_the_same_bytes_is_the_same_parent(store: Store) -> None:
    made = fakes.chain(store)
    again = remade(store, made["replay"], "payload", counts={"rows": 4})  # another manifest, equal files
    assert again.digest != made["replay"].digest
    assert store.open(made["scores"].ref) == made["scores"]
    assert fakes.make(store, "tokens", (again.ref,)) == made["tokens"]


def test_a_manifest_of_before_pins_the_whole_manifest(store: Store) -> None:
    made = fakes.chain(store)
    path = made["tokens"].folder / MANIFEST_NAME
    lines = [line for line in path.read_text().splitlines() if "content_sha256" not in line]
    path.write_text("\n".join(lines))
    assert Store(store.root).open(made["tokens"].ref).manifest.parents[0].content_sha256 == ""
    remade(store, made["replay"], "payload", counts={"rows": 4})
    with pytest.raises(WorldlineError, match=r"is stale: .* its manifest was \w+\.\.\., it is"):
        store.open(made["tokens"].ref)


def test_a_parent_that_is_gone_says_nothing(store: Store) -> None:
    made = fakes.chain(store)
    shutil.rmtree(made["replay"].folder)
    assert store.open(made["scores"].ref) == made["scores"]


def test_remaking_replaces_what_is_stale_or_damaged_and_nothing_else(store: Store) -> None:
    made = fakes.chain(store)
    replay = remade(store, made["replay"], "other")
    again = Store(store.root, remake=True)
    tokens = fakes.make(again, "tokens", (replay.ref,), text="anew")
    assert tokens.ref == made["tokens"].ref and tokens.path("data.bin").read_text() == "anew"
    assert store.open(tokens.ref) == tokens and not list((store.root / ".partial").iterdir())
    tokens.path("data.bin").write_text("cut")
    assert fakes.make(again, "tokens", (replay.ref,), text="whole").path("data.bin").read_text() == "whole"

    def never(draft: Draft) -> None:
        raise AssertionError("it stands")

    assert again.produce(fakes.spec("tokens", parents=(replay.ref,)), never).skipped


def test_remaking_leaves_alone_what_only_cannot_be_read_now(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fakes.make(store, "tokens")
    again = Store(store.root, remake=True)

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(MayPass, match="cannot be read now"):
            fakes.make(again, "tokens", text="other")
    assert store.open(made.ref) == made


def test_state_of_a_run_that_began_from_other_bytes_is_set_aside(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    parent = fakes.make(store, "replay")
    seen: list[list[str]] = []

    def stop(draft: Draft) -> None:
        seen.append(sorted(path.name for path in draft.scratch.glob("state*")))
        (draft.scratch / "state").write_text("step 7")
        raise RuntimeError("stopped")

    def begin() -> None:
        with pytest.raises(RuntimeError, match="stopped"):
            store.produce(fakes.spec("tokens", parents=(parent.ref,)), stop)

    begin()
    remade(store, parent, "payload", counts={"rows": 9})
    begin()
    remade(store, parent, "other")
    begin()
    assert seen == [[], ["state"], []]
    assert "was begun from other bytes of its parents: begins anew" in capsys.readouterr().err
    (aside,) = (path for path in store.scratch.iterdir() if ".stale." in path.name)
    assert (aside / "state").read_text() == "step 7"


def test_a_link_of_the_chain_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fakes.chain(store)
    fresh, reads = Store(store.root), []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or real(path))
    for _ in range(3):
        assert fresh.stale(fresh.open(made["scores"].ref)) == ""
    manifests = [path for path in reads if path.name == MANIFEST_NAME]
    assert len(manifests) == len(set(manifests)) == 5
