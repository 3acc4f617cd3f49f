"""Finds and removes what nothing refers to: artefacts no pointer leads to, and what dead writers left.

Scratch of runs that were begun and not finished is listed, and removed only on request: the same command would go on
from it.

A pointer keeps its artefact and all its ancestors. Point at what you want to keep before collecting; a running
stage keeps the whole store from being collected.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.errors import Members, WorldlineError
from pipelines.store.artefact import Artefact
from pipelines.store.files import locked_now, writable
from pipelines.store.ref import Ref
from pipelines.store.store import Store, flat


@dataclass(frozen=True)
class Unfinished:
    """The scratch folder of an artefact that was begun; `written`: when anything in it was last (seconds of time())."""

    folder: Path
    ref: str
    bytes: int
    written: float


@dataclass(frozen=True)
class Garbage:
    """What `collect` removed, or would remove, and `bytes` of it all.

    `unfinished` is all scratch of unfinished runs that nobody is at work on, removed or not.
    """

    artefacts: tuple[Artefact, ...]
    leftovers: tuple[Path | str, ...]
    bytes: int
    unfinished: tuple[Unfinished, ...] = ()


def plan(store: Store, roots: Iterable[Ref] = (), members: Members | None = None) -> list[Artefact]:
    """The artefacts that neither `roots` nor any pointer leads to, children before their parents.

    A damaged manifest or pointer raises WorldlineError, or where `members` keeps why, stays and keeps all artefacts
    whose address can still be read in it; a pointer in which there is none keeps all of its stage.
    """
    damaged, unread = Members(), Members()
    every = {artefact.ref: artefact for artefact in store.artefacts(members=damaged)}
    kept: set[Ref] = set()
    queue = [*roots, *store.pointers(unread).values()]
    for name in damaged.failed:
        queue += _mentioned(partial(store.raw_manifest, name), every)
    for name in unread.failed:
        stage = name.split("/")[0]
        queue += _mentioned(partial(store.raw_pointer, name), every) or [ref for ref in every if ref.stage == stage]
    for each in (damaged, unread):
        if members is None:
            each.end()
        else:
            members.take(each)
    while queue := queue or [ref for ref in every if ref not in kept and store.is_young(every[ref])]:
        ref = queue.pop()
        if ref not in kept and ref in every:
            kept.add(ref)
            queue += parents_of(every[ref])
    return _children_first({ref: artefact for ref, artefact in every.items() if ref not in kept})


def _mentioned(read: Callable[[], bytes | None], every: Iterable[Ref]) -> list[Ref]:
    """The artefacts whose addresses stand in what is left of a file."""
    try:
        raw = read() or b""
    except OSError:
        return []
    return [ref for ref in every if str(ref).encode() in raw]


def leftovers(store: Store) -> list[Path]:
    """Folders of writers that died, and scratch of artefacts that were finished; never those of a living writer."""
    finished = {flat(artefact.ref) for artefact in store.artefacts(members=Members())}
    partial = sorted((store.root / ".partial").glob("*"))
    scratch = [path for path in sorted(store.scratch.glob("*")) if path.name in finished]
    return [path for path in partial + scratch if path.is_dir() and _abandoned(store, path)]


def unfinished(store: Store) -> list[Unfinished]:
    """Scratch of artefacts that do not stand, the oldest first; never of one that is being made."""
    finished = {flat(artefact.ref) for artefact in store.artefacts(members=Members())}
    found = []
    for path in store.scratch.glob("*"):
        if path.is_dir() and path.name not in finished and _abandoned(store, path):
            written = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
            found.append(Unfinished(path, path.name.replace("@", "/"), _size(path), written))
    return sorted(found, key=lambda each: each.written)


def collect(
    store: Store,
    roots: Iterable[Ref] = (),
    dry_run: bool = True,
    drop_unfinished: bool = False,
    members: Members | None = None,
) -> Garbage:
    """Remove, or with `dry_run` only list, what `plan` and `leftovers` find, and what `unfinished` does on request.

    Raises WorldlineError while a stage is being run in this store: its parents may have no pointer yet.
    """
    if dry_run:
        return _garbage(store, roots, drop_unfinished, members)
    with writable(store.root), locked_now(store.store_lock_path) as alone:
        store.require_rights()
        if not alone:
            raise WorldlineError(f"Something is being made in the store {store.where}: collect when it has ended")
        garbage = _garbage(store, roots, drop_unfinished, members)
        for artefact in garbage.artefacts:
            store.remove(artefact)
        for left in garbage.leftovers:
            if isinstance(left, Path):
                shutil.rmtree(left)
            else:
                store.drop(left)
        for begun in garbage.unfinished if drop_unfinished else ():
            shutil.rmtree(begun.folder)
    return garbage


def parents_of(artefact: Artefact) -> list[Ref]:
    """The artefacts it was made from."""
    return [Ref.parse(entry.ref) for entry in artefact.manifest.parents]


def _garbage(store: Store, roots: Iterable[Ref], drop_unfinished: bool, members: Members | None) -> Garbage:
    artefacts, left, begun, orphans = plan(store, roots, members), leftovers(store), unfinished(store), store.orphans()
    size = sum(artefact.manifest.total_bytes for artefact in artefacts) + sum(map(_size, left)) + sum(orphans.values())
    size += sum(each.bytes for each in begun) if drop_unfinished else 0
    return Garbage(tuple(artefacts), (*left, *orphans), size, tuple(begun))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
