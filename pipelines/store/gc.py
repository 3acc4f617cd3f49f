"""Finds and removes what nothing refers to: artefacts no pointer leads to, and what dead writers left.

A pointer keeps its artefact and all its ancestors. Point at what you want to keep before collecting; a running
stage keeps the whole store from being collected.
"""

import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.files import locked_now, sync, writable
from pipelines.store.ref import Ref
from pipelines.store.store import Store, flat


@dataclass(frozen=True)
class Garbage:
    """What `collect` removed, or would remove; `bytes` counts both kinds."""

    artefacts: tuple[Artefact, ...]
    leftovers: tuple[Path, ...]
    bytes: int


def plan(store: Store, roots: Iterable[Ref] = ()) -> list[Artefact]:
    """The artefacts that neither `roots` nor any pointer leads to, children before their parents.

    Raises WorldlineError at a damaged manifest or pointer: what it refers to cannot be known then.
    """
    every = {artefact.ref: artefact for artefact in store.artefacts()}
    kept: set[Ref] = set()
    queue = [*roots, *store.pointers().values()]
    while queue:
        ref = queue.pop()
        if ref not in kept and ref in every:
            kept.add(ref)
            queue += parents_of(every[ref])
    return _children_first({ref: artefact for ref, artefact in every.items() if ref not in kept})


def leftovers(store: Store) -> list[Path]:
    """Folders of writers that died, and scratch of artefacts that were finished; never those of a living writer."""
    finished = {flat(artefact.ref) for artefact in store.artefacts()}
    partial = sorted((store.root / ".partial").glob("*"))
    scratch = [path for path in sorted(store.scratch.glob("*")) if path.name in finished]
    return [path for path in partial + scratch if path.is_dir() and _abandoned(store, path)]


def collect(store: Store, roots: Iterable[Ref] = (), dry_run: bool = True) -> Garbage:
    """Remove, or with `dry_run` only list, what `plan` and `leftovers` find.

    Raises WorldlineError while a stage is being run in this store: its parents may have no pointer yet.
    """
    if dry_run:
        return _garbage(store, roots)
    with writable(store.root), locked_now(store.store_lock_path) as alone:
        if not alone:
            raise WorldlineError(f"Something is being made in the store {store.root}: collect when it has ended")
        garbage = _garbage(store, roots)
        for artefact in garbage.artefacts:
            _remove(store, artefact)
        for path in garbage.leftovers:
            shutil.rmtree(path)
    return garbage


def parents_of(artefact: Artefact) -> list[Ref]:
    """The artefacts it was made from."""
    return [Ref.parse(entry.ref) for entry in artefact.manifest.parents]


def _garbage(store: Store, roots: Iterable[Ref]) -> Garbage:
    artefacts, left = plan(store, roots), leftovers(store)
    size = sum(artefact.manifest.total_bytes for artefact in artefacts)
    size += sum(path.stat().st_size for folder in left for path in folder.rglob("*") if path.is_file())
    return Garbage(tuple(artefacts), tuple(left), size)


def _children_first(artefacts: dict[Ref, Artefact]) -> list[Artefact]:
    """So that a collection that is killed never leaves a child without its parents."""
    order: list[Artefact] = []
    placed: set[Ref] = set()

    def place(ref: Ref) -> None:  # parents before children; reversed at the end
        if ref in artefacts and ref not in placed:
            placed.add(ref)
            for parent in parents_of(artefacts[ref]):
                place(parent)
            order.append(artefacts[ref])

    for ref in artefacts:
        place(ref)
    return order[::-1]


def _abandoned(store: Store, path: Path) -> bool:
    """No living process holds the lock of the artefact that this private folder belongs to."""
    name = path.name.rsplit(".", 2)[0] if path.parent.name == ".partial" else path.name
    with locked_now(store.root / ".locks" / f"{name}.lock") as free:
        return free


def _remove(store: Store, artefact: Artefact) -> None:
    """The rename is the removal: killed after it, the artefact is gone and a leftover remains."""
    aside = store.root / ".partial" / f"{flat(artefact.ref)}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    artefact.folder.rename(aside)
    sync(artefact.folder.parent)
    shutil.rmtree(aside)
    for folder in (artefact.folder.parent, *artefact.folder.parent.parents):
        if folder == store.root or any(folder.iterdir()):
            break
        folder.rmdir()
