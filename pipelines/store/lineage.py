"""The tree of everything an artefact was made from, read from the manifests alone; its check, byte for byte; its views.

Each manifest pins its parents by the digest of their manifests, or by the hash of the part that was read. A parent
that is missing, damaged or no longer the one that was pinned gets a `fault`. Reading the tree reads one small file of
each artefact; verifying it reads every file. Command: `worldline lineage NAME [--verify]`.

What came from another store keeps the manifests of its ancestors there among its own files, below `lineage/`; a root
of it names the one that it is a copy of. The tree goes on through them. Their files are elsewhere, which is no fault:
what can be verified of them is that every manifest is the one that its child pinned.

The views are for the terminal, as JSON, and as a fragment of HTML for the report. An artefact that several children
share is written out once; later appearances only name it.
"""

import html
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from pipelines.errors import WorldlineError
from pipelines.progress import size, track
from pipelines.store.artefact import Artefact
from pipelines.store.manifest import MANIFEST_NAME, Manifest, ParentEntry, digest
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store

ABOVE = "(see above)"
ELSEWHERE = "elsewhere"
LONGEST_VALUE = 80  # characters of one value of a root; a bucket may list thousands of objects
MOST_ROOTS = 6

KEPT = "lineage"  # the folder of an artefact that holds the manifests of its ancestors elsewhere, at their addresses
COPY_OF = "copy_of"  # of a root: the address, in another store, of what the artefact is a copy of

Kept = Mapping[Ref, Artefact]


@dataclass(frozen=True)
class Node:
    """One appearance of an artefact in the tree, as the child above it sees it.

    `pinned` is the manifest digest that the child recorded (empty for the top of the tree), `part` the part that the
    child read ("" for all of it), `fault` what is wrong with that edge ("" when nothing is). `elsewhere` is an artefact
    of another store, of which only the manifest is here. `artefact` is None then, and when its manifest cannot be read.
    """

    ref: Ref
    artefact: Artefact | None
    pinned: str
    fault: str
    parents: tuple["Node", ...]
    part: str = ""
    elsewhere: Artefact | None = None

    @property
    def known(self) -> Artefact | None:
        """What is known of it: here, or from the manifest that came with a copy."""
        return self.artefact or self.elsewhere

    @property
    def identity(self) -> tuple[Ref, bool]:
        """Tells it from one of the same address in another store, which may hold other bytes."""
        return self.ref, self.elsewhere is not None


def walk(store: Store, ref: Ref) -> Node:
    """The tree below `ref`. Raises WorldlineError when `ref` itself is not in the store or its manifest is damaged."""
    return walk_all(store, [ref])[0]


def walk_all(store: Store, refs: Iterable[Ref]) -> list[Node]:
    """The trees below several artefacts; what they share is read once. Raises WorldlineError as `walk`."""
    walker = _Walker(store)
    found = []
    for ref in refs:
        if store.find(ref) is None:
            raise WorldlineError(f"{ref} is not in the store {store.where}: 'worldline list' prints what there is")
        found.append(walker.node(ParentEntry(str(ref), ""), above=()))
    return found


def edges(top: Node) -> Iterator[Node]:
    """`top`, then every artefact below it once per child that uses it, level by level."""
    yield top
    done: set[tuple[Ref, bool]] = set()
    queue = deque([top])
    while queue:
        node = queue.popleft()
        if node.identity not in done:
            done.add(node.identity)
            yield from node.parents
            queue.extend(node.parents)


def flat(top: Node) -> list[Node]:
    """Every artefact of the tree once, `top` first, each by the first way that leads to it."""
    found: dict[tuple[Ref, bool], Node] = {}
    for node in edges(top):
        found.setdefault(node.identity, node)
    return list(found.values())


def summed(store: Store, ref: Ref, stage: str, count: str) -> int:
    """The sum of one of their counts over all artefacts of a stage in the tree below `ref`, itself included.

    Raises WorldlineError as `walk`.
    """
    known = [node.known for node in flat(walk(store, ref)) if node.ref.stage == stage]
    return sum(each.manifest.counts.get(count, 0) for each in known if each is not None)


@dataclass(frozen=True)
class Fault:
    """One thing that differs from the manifests; `detail` names the file or the manifest."""

    ref: Ref
    detail: str

    def __str__(self) -> str:
        return f"{self.ref}: {self.detail}"


def kept(names: Iterable[str], path_of: Callable[[str], Path]) -> dict[Ref, Artefact]:
    """The artefacts elsewhere whose manifests are among the files `names`, which lie at `path_of(name)`.

    Raises WorldlineError for a manifest that is damaged or stands at another address than its own.
    """
    found = {}
    for name in names:
        if name.startswith(f"{KEPT}/") and name.endswith(f"/{MANIFEST_NAME}"):
            path = path_of(name)
            try:
                raw = path.read_bytes()
            except OSError as error:
                raise WorldlineError(f"{path} cannot be read ({error.strerror}): fetch it again") from error
            manifest = Manifest.from_bytes(raw, str(path))
            ref = Ref(manifest.stage, manifest.subject, manifest.key)
            if name != f"{KEPT}/{ref}/{MANIFEST_NAME}":
                raise WorldlineError(f"{path} describes {ref}: folders must not be renamed, fetch it again")
            found[ref] = Artefact(ref, path.parent, manifest, digest(raw))
    return found


def kept_faults(found: Kept) -> list[Fault]:
    """What is wrong with manifests that came along: keys, parts, parents that are missing or not what was pinned."""
    faults = [Fault(each.ref, detail) for each in found.values() for detail in manifest_faults(each)]
    for child in found.values():
        for entry in (*child.manifest.parents, *copied(child.manifest)):
            parent = found.get(Ref.parse(entry.ref))
            fault = _pin_fault(parent, entry, child.ref) if parent else f"its manifest is missing, {child.ref} needs it"
            faults += [Fault(Ref.parse(entry.ref), fault)] if fault else []
    return faults


class _Walker:
    """Reads every manifest once; an edge is a new Node, what hangs below it is shared."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: dict[tuple[Ref, int], Node] = {}
        self.keep: list[Kept] = []  # so that none takes the id of another

    def node(self, entry: ParentEntry, above: tuple[Ref, ...], along: Kept | None = None) -> Node:
        """The artefact of `entry` as the last of `above` pinned it. Raises WorldlineError for a circle.

        along: the manifests that came with a copy, while the tree is that of the store which it came from.
        """
        ref = Ref.parse(entry.ref)
        if ref in above:
            raise WorldlineError(
                f"The lineage of {above[0]} runs in a circle through {ref}: its manifests were altered"
            )
        if (ref, id(along)) not in self.known:
            self.known[ref, id(along)] = self._read(entry, above, along)
        node = self.known[ref, id(along)]
        fault = _pin_fault(node.known, entry, above[-1]) if node.known is not None and above else node.fault
        return replace(node, pinned=entry.manifest_sha256, part=entry.part, fault=fault)

    def _read(self, entry: ParentEntry, above: tuple[Ref, ...], along: Kept | None) -> Node:
        ref = Ref.parse(entry.ref)
        try:
            artefact = self.store.find(ref)
        except WorldlineError as error:
            return Node(ref, None, "", str(error), ())
        if along is not None and (artefact is None or artefact.digest != entry.manifest_sha256) and ref in along:
            return Node(ref, None, "", "", self._below(along[ref], above, along, along), elsewhere=along[ref])
        if artefact is None:
            return Node(ref, None, "", f"missing from the store {self.store.where}", ())
        return Node(ref, artefact, "", "", self._below(artefact, above, None, self._along(artefact)))

    def _below(
        self, artefact: Artefact, above: tuple[Ref, ...], along: Kept | None, theirs: Kept | None
    ) -> tuple[Node, ...]:
        """Its parents, then what it is a copy of, where it came from another store."""
        above = (*above, artefact.ref)
        parents = [self.node(entry, above, along) for entry in artefact.manifest.parents]
        return (*parents, *(self.node(entry, above, theirs) for entry in copied(artefact.manifest)))

    def _along(self, artefact: Artefact) -> Kept | None:
        """The manifests that came with a copy."""
        if not copied(artefact.manifest):
            return None
        try:
            along = kept(artefact.names(), artefact.path)
        except WorldlineError:  # verifying names the file
            along = {}
        self.keep.append(along)
        return along


def copied(manifest: Manifest) -> list[ParentEntry]:
    """What an artefact is a copy of in another store, as its roots pin it; nothing of what was made here."""
    roots = [root for root in manifest.roots if COPY_OF in root]
    return [ParentEntry(str(root[COPY_OF]), str(root.get("manifest_sha256"))) for root in roots]


def _pin_fault(artefact: Artefact, entry: ParentEntry, child: Ref) -> str:
    """What is wrong with an artefact as the parent that `child` pinned; "" when it is still the same."""
    if entry.part or artefact.digest == entry.manifest_sha256:
        difference = entry.difference(artefact.manifest, artefact.digest)
        return f"{difference}, {child} was made from the former" if difference else ""
    same = "; its files are the same" if not entry.difference(artefact.manifest, artefact.digest) else ""
    return f"its manifest is {artefact.digest[:12]}..., {child} was made from {entry.manifest_sha256[:12]}...{same}"


def verify(store: Store, ref: Ref) -> list[Fault]:
    """Re-hash every file of every artefact in the lineage of `ref`, and compare every pinned manifest.

    Returns all faults, none when the lineage is sound: parents missing or other than pinned, files missing, changed
    or not listed, parts that are not what their files are, a manifest whose config does not give its key, a top other
    than its pointers recorded. Of what is elsewhere the manifests alone are verified. Raises WorldlineError when `ref`
    is not in the store.
    """
    top = walk(store, ref)
    faults = list(dict.fromkeys(Fault(node.ref, node.fault) for node in edges(top) if node.fault))
    faults += _top_faults(store, top)
    artefacts = [node.artefact for node in flat(top) if node.artefact is not None]
    for node in flat(top):
        if node.elsewhere is not None:
            faults += [Fault(node.ref, detail) for detail in manifest_faults(node.elsewhere)]
    with track("Verify", total=len(artefacts), unit="artefacts") as advance:
        for artefact in artefacts:
            faults += [Fault(artefact.ref, detail) for detail in _faults(artefact)]
            advance(1, str(artefact.ref))
    return faults


def _top_faults(store: Store, top: Node) -> list[Fault]:
    """No child pins the top's manifest, but the pointers to it do."""
    if top.artefact is None:
        return []
    path, digest = top.artefact.manifest_at, top.artefact.digest
    changed = [name for name, pin in store.pins(top.ref).items() if pin != digest]
    return [Fault(top.ref, f"{path}: sha256 differs from what the name '{name}' recorded") for name in changed]


def _faults(artefact: Artefact) -> list[str]:
    try:
        found = artefact.faults(rehash=True)
    except WorldlineError as error:  # the others are looked at all the same
        found = [str(error)]
    found += manifest_faults(artefact)
    return found + [f"{path}: not in the manifest" for path in artefact.unlisted()]


def manifest_faults(artefact: Artefact) -> list[str]:
    """What a manifest shows to be wrong by itself."""
    manifest, path, found = artefact.manifest, artefact.manifest_at, []
    parents = tuple(Ref.parse(entry.ref) for entry in manifest.parents)
    key = Spec(manifest.stage, manifest.subject, manifest.code_version, manifest.config, parents).key
    if key != manifest.key:
        found.append(f"{path}: its code version, config and parents give the key {key}")
    return found + [f"{path}: {fault}" for fault in manifest.part_faults()]


# ---- views ----


def facts(manifest: Manifest) -> str:
    """Counts, size and time of one artefact in a line: `30,000 frames, 1.2 MB, 61.0 s`."""
    parts = [f"{value:,} {name}" for name, value in manifest.counts.items()]
    parts.append(size(manifest.total_bytes))
    if "seconds" in manifest.cost:
        parts.append(f"{manifest.cost['seconds']:,.1f} s")
    return ", ".join(parts)


def root_lines(manifest: Manifest) -> list[str]:
    """What an artefact without parents comes from, a line each: `game Freeway, rom_md5 8e0a..., policy script`."""
    lines = [", ".join(f"{name} {_short(value)}" for name, value in root.items()) for root in manifest.roots]
    more = len(lines) - MOST_ROOTS
    return lines if more <= 0 else [*lines[:MOST_ROOTS], f"... and {more:,} more (--json prints all)"]


def to_tree(top: Node) -> Tree:
    """The tree for a terminal: `rich.print(to_tree(walk(store, ref)))`."""
    return _branch(Tree(_markup(top), guide_style="dim"), top, set())


def to_json(top: Node) -> str:
    """All artefacts once, `top` first, with digests, parents as pinned, roots, counts, cost and faults."""
    return json.dumps({"top": str(top.ref), "artefacts": [_record(node) for node in flat(top)]}, indent=1)


def to_html(top: Node, written: set[Ref] | None = None) -> str:
    """A nested `<ul class="lineage">`; every text is escaped. What is in `written` is only named; the rest is added."""
    return f'<ul class="lineage">{_item(top, set() if written is None else written)}</ul>'


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _markup(node: Node, above: bool = False) -> str:
    text = f"[bold]{node.ref.stage}[/]/{node.ref.subject}/[cyan]{node.ref.key}[/]"
    text += f"  [magenta]{escape(_part(node))}[/]" if node.part else ""
    if node.known is not None:
        text += f"  [dim]{ABOVE if above else escape(facts(node.known.manifest))}[/]"
    text += f"  [yellow]{ELSEWHERE}[/]" if node.elsewhere else ""
    return text + (f"  [bold red]{escape(node.fault)}[/]" if node.fault else "")


def _part(node: Node) -> str:
    return f"only its {node.part}" if node.part else ""


def _branch(tree: Tree, node: Node, seen: set[Ref]) -> Tree:
    seen.add(node.ref)
    for line in root_lines(node.known.manifest) if node.known else []:
        tree.add(f"[green]{escape(line)}[/]")
    for parent in node.parents:
        above = parent.ref in seen
        branch = tree.add(_markup(parent, above))
        if not above:
            _branch(branch, parent, seen)
    return tree


def _record(node: Node) -> dict[str, Any]:
    record: dict[str, Any] = {"ref": str(node.ref), "fault": node.fault, "elsewhere": node.elsewhere is not None}
    if node.known is not None:
        manifest = node.known.manifest
        record |= {
            "manifest_sha256": node.known.digest,
            "code_version": manifest.code_version,
            "git_commit": manifest.git_commit,
            "created": manifest.created,
            "config": manifest.config,
            "counts": manifest.counts,
            "bytes": manifest.total_bytes,
            "cost": manifest.cost,
            "roots": list(manifest.roots),
            "parts": {name: part.sha256 for name, part in manifest.parts.items()},
            "adopted": manifest.adopted,
            "parents": [
                {"ref": str(parent.ref), "part": parent.part, "manifest_sha256": parent.pinned, "fault": parent.fault}
                for parent in node.parents
            ],
        }
    return record


def _item(node: Node, seen: set[Ref]) -> str:
    above = node.ref in seen
    seen.add(node.ref)
    text = f"<code>{html.escape(str(node.ref))}</code>"
    text += f" <span>{html.escape(_part(node))}</span>" if node.part else ""
    if node.known is not None:
        text += f" <span>{ABOVE if above else html.escape(facts(node.known.manifest))}</span>"
    text += f" <em>{ELSEWHERE}</em>" if node.elsewhere else ""
    if node.fault:
        text += f" <strong>{html.escape(node.fault)}</strong>"
    inner = ""
    if node.known is not None and not above:
        inner = "".join(f'<li class="root">{html.escape(line)}</li>' for line in root_lines(node.known.manifest))
        inner += "".join(_item(parent, seen) for parent in node.parents)
    return f"<li>{text}{f'<ul>{inner}</ul>' if inner else ''}</li>"
