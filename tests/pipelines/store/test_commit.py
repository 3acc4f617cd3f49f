"""Files become an artefact or nothing, and are adopted when all inputs are the same bytes, and never otherwise."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.lineage import to_json, verify, walk
from pipelines.store.manifest import CheckEntry, Manifest
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store
from tests import fakes


def test_parts_of_files_and_of_arrays_stand_in_the_manifest(store: Store) -> None:
    def build(draft: Draft) -> None:
        fakes.fill()(draft)
        draft.part("whole", files=["data.bin", "sub/more.bin"])
        draft.part("turned", files=["sub/more.bin", "data.bin"])
        draft.part("first", files=["data.bin"])
        draft.part("frames", digest="f" * 64)

    manifest = store.produce(fakes.spec(), build).artefact.manifest
    assert manifest.parts["whole"] == manifest.parts["turned"]
    assert manifest.parts["first"].files == ("data.bin",) and manifest.parts["frames"].content == "f" * 64
    assert len({part.sha256 for part in manifest.parts.values()}) == 3
    assert manifest.part_faults() == []
    assert Manifest.from_bytes(manifest.to_bytes(), "here") == manifest


def test_a_part_of_nothing_or_of_an_absent_file_is_refused(store: Store) -> None:
    def build(draft: Draft) -> None:
        fakes.fill()(draft)
        with pytest.raises(ValueError, match="consists of nothing"):
            draft.part("frames")
        draft.part("frames", files=["absent.bin"])

    with pytest.raises(ValueError, match=r"'absent.bin', which was not written: it holds data\.bin, sub/more\.bin"):
        store.produce(fakes.spec(), build)
    assert list(store.artefacts()) == []


def test_a_child_pins_the_part_that_it_read_and_an_old_parent_as_a_whole(store: Store) -> None:
    old = fakes.make(store, "trajectories")
    new = store.produce(fakes.spec("pretrained"), fakes.with_parts(tokenizer="codes", world="dynamics")).artefact
    spec = Spec("tokens", "Freeway", "1", {}, (old.ref, new.ref), ("frames", "tokenizer"))
    one, two = store.produce(spec, fakes.fill()).artefact.manifest.parents
    assert (one.part, one.part_sha256, one.manifest_sha256) == ("", "", old.digest)
    assert (two.part, two.part_sha256) == ("tokenizer", new.manifest.parts["tokenizer"].sha256)


def test_without_parts_a_manifest_has_the_fields_that_older_releases_know(store: Store) -> None:
    parent = fakes.make(store, "replay")
    raw = fakes.make(store, "trajectories", (parent.ref,)).manifest.to_bytes()
    assert not any(name in raw for name in (b'"parts"', b'"part"', b'"part_sha256"', b'"adopted"'))


def agent(store: Store, seed: int, tokenizer: str = "codes", world: str = "dynamics") -> Artefact:
    """A checkpoint of two parts; another seed is another address."""
    build = fakes.with_parts(tokenizer=tokenizer, world=world)
    return store.produce(fakes.spec("pretrained", seed=seed), build).artefact


def tokens(agent: Artefact, part: str = "tokenizer", code: str = "1", **config: Any) -> Spec:
    return Spec("tokens", "Freeway", code, config, (agent.ref,), (part,))


def produce(store: Store, spec: Spec, **fields: Any) -> tuple[Report, list[str]]:
    """The report, and the names of what was built."""
    built = []

    def build(draft: Draft) -> None:
        built.append(str(draft.spec.ref))
        fakes.fill(**fields)(draft)
        draft.part("all", files=["data.bin", "sub/more.bin"])

    return store.produce(spec, build), built


def test_an_equal_part_of_another_parent_re_encodes_nothing(store: Store) -> None:
    checks = [CheckEntry("codes", True, True, "7 codes")]
    first, _ = produce(store, tokens(agent(store, 1)), counts={"frames": 9}, checks=checks)
    other = agent(store, 2, world="changed")
    report, built = produce(store, tokens(other))
    assert built == [] and report.skipped and report.adopted
    made, source = report.artefact, first.artefact
    assert made.ref == tokens(other).ref != source.ref
    assert made.manifest.adopted == str(source.ref) and f"adopted from {source.ref}" in str(report)
    assert made.manifest.files == source.manifest.files and made.manifest.parts == source.manifest.parts
    assert (made.manifest.counts, made.manifest.checks) == ({"frames": 9}, (checks[0],))
    assert made.manifest.parents[0].manifest_sha256 == other.digest
    assert made.path("data.bin").stat().st_ino == source.path("data.bin").stat().st_ino  # a link costs no room
    assert verify(store, made.ref) == []
    assert f'"adopted": "{source.ref}"' in to_json(walk(store, made.ref))
    again, built = produce(store, tokens(other))
    assert built == [] and again.skipped and not again.adopted and "already there" in str(again)


@pytest.mark.parametrize(
    "change",
    [
        lambda store, other: tokens(agent(store, 3, tokenizer="other codes")),
        lambda store, other: tokens(other, part="world"),
        lambda store, other: tokens(other, code="2"),
        lambda store, other: tokens(other, batch=7),
        lambda store, other: Spec("tokens", "Pong", "1", {}, (other.ref,), ("tokenizer",)),
        lambda store, other: Spec("tokens", "Freeway", "1", {}, (other.ref,)),
        lambda store, other: Spec("tokens", "Freeway", "1", {}, (other.ref, other.ref), ("tokenizer", "tokenizer")),
    ],
)
def test_another_part_code_config_subject_or_a_whole_parent_rebuilds(
    store: Store, change: Callable[[Store, Artefact], Spec]
) -> None:
    produce(store, tokens(agent(store, 1)))
    spec = change(store, agent(store, 2, world="changed"))
    report, built = produce(store, spec)
    assert built == [str(spec.ref)] and not report.skipped and not report.artefact.manifest.adopted


def test_every_parent_must_be_the_same(store: Store) -> None:
    frames, others = fakes.make(store, "trajectories", seed=1), fakes.make(store, "trajectories", seed=2)

    def spec(agent: Artefact, frames: Artefact) -> Spec:
        return Spec("tokens", "Freeway", "1", {}, (agent.ref, frames.ref), ("tokenizer", ""))

    produce(store, spec(agent(store, 1), frames))
    other = agent(store, 2, world="changed")
    assert produce(store, spec(other, others))[1] != []
    assert produce(store, spec(other, frames))[1] == []


def test_what_was_adopted_is_adopted_from_in_turn(store: Store) -> None:
    first, _ = produce(store, tokens(agent(store, 1)))
    second, _ = produce(store, tokens(agent(store, 2, world="b")))
    for path in sorted(first.artefact.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    third, built = produce(store, tokens(agent(store, 3, world="c")))
    assert built == [] and third.artefact.manifest.adopted == second.artefact.manifest.adopted == str(
        first.artefact.ref
    )
    assert verify(store, third.artefact.ref) == []


@pytest.mark.parametrize("damage", ["flip", "grow", "remove", "manifest"])
def test_a_damaged_source_is_not_adopted(store: Store, damage: str) -> None:
    source = produce(store, tokens(agent(store, 1)))[0].artefact
    path = source.path("data.bin")
    if damage == "flip":
        fakes.flip_byte(path)
    elif damage == "grow":
        path.write_text("more than before")
    elif damage == "remove":
        path.unlink()
    else:
        (source.folder / "manifest.json").write_text("{")
    report, built = produce(store, tokens(agent(store, 2, world="changed")))
    assert built == [str(report.artefact.ref)] and not report.adopted
    assert report.artefact.faults(rehash=True) == [] and list((store.root / ".partial").iterdir()) == []


def test_a_source_that_failed_a_blocking_check_is_not_adopted(store: Store) -> None:
    produce(store, tokens(agent(store, 1)), checks=[CheckEntry("codes", False, True, "1 code")])
    assert produce(store, tokens(agent(store, 2, world="changed")))[1] != []


def test_without_hard_links_the_files_are_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source = produce(store, tokens(agent(store, 1)))[0].artefact
    other = agent(store, 2, world="changed")
    monkeypatch.setattr(os, "link", refuse)
    report, built = produce(store, tokens(other))
    assert built == [] and report.adopted and report.artefact.faults(rehash=True) == []
    assert report.artefact.path("data.bin").stat().st_ino != source.path("data.bin").stat().st_ino


ADOPT = """
import os, signal, sys
from pathlib import Path
from pipelines.store import commit
from tests.pipelines.store.test_commit import agent, produce, tokens
from pipelines.store.store import Store

link = commit._link
def link_and_die(source, target):
    link(source, target)
    if target.name == "more.bin":
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "die":
    commit._link = link_and_die
store = Store(Path(sys.argv[1]))
report, built = produce(store, tokens(agent(store, 2, world="changed")))
print("adopted" if report.adopted else "made", built)
"""


def test_a_process_killed_while_it_adopts_leaves_nothing_trusted(store: Store) -> None:
    source = produce(store, tokens(agent(store, 1)))[0].artefact
    assert fakes.finish(fakes.start(ADOPT, store.root, "die"))[0] == -signal.SIGKILL
    (left,) = (store.root / ".partial").iterdir()
    assert (left / "sub" / "more.bin").exists() and not (left / "manifest.json").exists()
    assert [each.ref for each in store.artefacts("tokens")] == [source.ref]
    code, out, err = fakes.finish(fakes.start(ADOPT, store.root, "live"))
    assert code == 0 and out == "adopted []\n", err
    assert list((store.root / ".partial").iterdir()) == []
    assert all(each.faults(rehash=True) == [] for each in store.artefacts())


def test_a_part_made_anew_with_the_same_bytes_is_no_fault_and_another_one_is(store: Store, tmp_path: Path) -> None:
    parent = agent(store, 1)
    child = produce(store, tokens(parent))[0].artefact
    parent.folder.rename(tmp_path / "away")
    assert agent(store, 1, world="not the same").digest != parent.digest
    assert verify(store, child.ref) == []
    for path in (store.root / "pretrained").rglob("*.bin"):
        path.unlink()
    (parent.folder / "manifest.json").unlink()
    agent(store, 1, tokenizer="other codes")
    (fault,) = verify(store, child.ref)
    assert "its part 'tokenizer' was " in fault.detail and str(child.ref) in fault.detail
