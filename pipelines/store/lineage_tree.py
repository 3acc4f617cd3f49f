"""Three views of a lineage tree: for the terminal, as JSON, and as a fragment of HTML for the report.

An artefact that several children share is written out once; later appearances only name it.
"""

import html
import json
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from pipelines.progress import size
from pipelines.store.lineage import Node, flat
from pipelines.store.manifest import Manifest
from pipelines.store.ref import Ref

ABOVE = "(see above)"

LONGEST_VALUE = 80  # characters of one value of a root; a bucket may list thousands of objects

MOST_ROOTS = 6


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
    if node.artefact is not None:
        text += f"  [dim]{ABOVE if above else escape(facts(node.artefact.manifest))}[/]"
    return text + (f"  [bold red]{escape(node.fault)}[/]" if node.fault else "")


def _part(node: Node) -> str:
    return f"only its {node.part}" if node.part else ""


def _branch(tree: Tree, node: Node, seen: set[Ref]) -> Tree:
    seen.add(node.ref)
    for line in root_lines(node.artefact.manifest) if node.artefact else []:
        tree.add(f"[green]{escape(line)}[/]")
    for parent in node.parents:
        above = parent.ref in seen
        branch = tree.add(_markup(parent, above))
        if not above:
            _branch(branch, parent, seen)
    return tree


def _record(node: Node) -> dict[str, Any]:
    record: dict[str, Any] = {"ref": str(node.ref), "fault": node.fault}
    if node.artefact is not None:
        manifest = node.artefact.manifest
        record |= {
            "manifest_sha256": node.artefact.digest,
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
    if node.artefact is not None:
        text += f" <span>{ABOVE if above else html.escape(facts(node.artefact.manifest))}</span>"
    if node.fault:
        text += f" <strong>{html.escape(node.fault)}</strong>"
    inner = ""
    if node.artefact is not None and not above:
        inner = "".join(f'<li class="root">{html.escape(line)}</li>' for line in root_lines(node.artefact.manifest))
        inner += "".join(_item(parent, seen) for parent in node.parents)
    return f"<li>{text}{f'<ul>{inner}</ul>' if inner else ''}</li>"
