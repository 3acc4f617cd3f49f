"""The lineage of an artefact as one HTML page: a drawn graph, and a sheet for each artefact with all of its manifest.

The page needs no network, runs no script, and its policy lets nothing load. Every text is escaped and passes the
redaction of secrets. The same tree gives the same bytes. Layers are by distance from the top: what was made from
nothing stands at the left, the artefact that was asked for at the right. A layer draws `MOST_IN_LAYER` boxes at most,
and `MOST_SHEETS` have a sheet; those with faults come first, and the rest is listed.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.progress import size
from pipelines.redact import redactor
from pipelines.store.lineage import Node, edges, facts, flat, root_lines
from pipelines.store.manifest import Manifest
from pipelines.store.ref import Ref

MOST_IN_LAYER = 24
MOST_SHEETS = 400
MOST_FILES = 100  # of one sheet; a token array has thousands of chunks
LONGEST_CONFIG = 6000  # characters; a leaderboard's names all its scores
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 190, 54, 250, 68, 12  # pixels: of a box, from one to the next, around all
DEEPEST = 120  # pixels: how far the control points of an arrow lie below its ends
LETTERS = 28  # of one line in a box


@dataclass(frozen=True, eq=False)
class Sheet:
    """One artefact: all that is wrong with it, whichever child says so, and what its manifest tells."""

    node: Node
    number: int
    faults: tuple[str, ...]

    @property
    def manifest(self) -> Manifest | None:
        """None when it cannot be read."""
        return self.node.artefact.manifest if self.node.artefact else None

    @property
    def facts(self) -> str:
        """Counts, size and time in a line."""
        return facts(self.manifest) if self.manifest else ""

    @property
    def state(self) -> str:
        """`fault`, `failed` (a check) or `sound`."""
        failed = self.manifest is not None and any(not check.passed for check in self.manifest.checks)
        return "fault" if self.faults else "failed" if failed else "sound"

    @property
    def cost(self) -> list[tuple[str, str]]:
        """What it took, with units, its size, and the machine that it took it of."""
        spent = [(name.replace("_", " "), _amount(name, value)) for name, value in self._manifest.cost.items()]
        machine = [(f"machine: {name}", str(value)) for name, value in self._manifest.machine.items()]
        return [*spent, ("size", size(self._manifest.total_bytes)), *machine]

    @property
    def roots(self) -> list[str]:
        """What it comes from where it has no parent."""
        return root_lines(self._manifest)

    @property
    def config(self) -> str:
        """The config as JSON; cut where it is too long to read."""
        text = json.dumps(self._manifest.config, indent=1, sort_keys=True, ensure_ascii=False)
        return text if len(text) <= LONGEST_CONFIG else text[:LONGEST_CONFIG] + "\n... (--json prints all)"

    @property
    def _manifest(self) -> Manifest:
        assert self.manifest is not None  # the template asks only then
        return self.manifest


@dataclass(frozen=True, eq=False)
class Box:
    """A drawn artefact, or with `more` those of its layer that are not drawn. Pixels, from the top left."""

    x: int
    y: int
    sheet: Sheet | None
    more: int = 0

    @property
    def lines(self) -> list[str]:
        """Stage, subject and key, each no longer than the box."""
        if self.sheet is None:
            return [f"and {self.more:,} more", "listed below"]
        ref = self.sheet.node.ref
        texts = (ref.stage, ref.subject, ref.key)
        return [text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}" for text in texts]


@dataclass(frozen=True)
class Arrow:
    """From a parent to its child: an SVG path, and what is wrong with that edge."""

    path: str
    fault: str


class Drawing:
    """The graph below `top`: boxes in layers, and arrows between them."""

    def __init__(self, top: Node) -> None:
        self.top = top
        faults: dict[Ref, dict[str, None]] = defaultdict(dict)
        for node in edges(top):
            if node.fault:
                faults[node.ref][node.fault] = None
        self.sheets = [Sheet(node, number, tuple(faults[node.ref])) for number, node in enumerate(flat(top))]
        self._by_ref = {sheet.node.ref: sheet for sheet in self.sheets}
        self._boxes: dict[Ref, Box] = {}
        self._more: dict[int, Box] = {}
        self._depths = _depths(sheet.node for sheet in self.sheets)
        self._place()

    @cached_property
    def boxes(self) -> list[Box]:
        """What is drawn."""
        return [*self._boxes.values(), *self._more.values()]

    @cached_property
    def arrows(self) -> list[Arrow]:
        """From the parents of what is drawn, each pair once."""
        found: dict[tuple[Box, Box], Arrow] = {}
        for ref, box in self._boxes.items():
            for parent in self._by_ref[ref].node.parents:
                start = self._boxes.get(parent.ref) or self._more[self._depths[parent.ref]]
                old = found.get((start, box))
                if old is None or parent.fault:
                    found[start, box] = Arrow(_curve(start, box), parent.fault)
        return sorted(found.values(), key=lambda arrow: bool(arrow.fault))  # faults are drawn over the others

    @cached_property
    def described(self) -> list[Sheet]:
        """Those with a sheet: what is drawn or has a fault, then the others, in the order of the tree."""
        wanted = sorted(self.sheets, key=lambda sheet: (sheet.node.ref not in self._boxes, not sheet.faults))
        return sorted(wanted[:MOST_SHEETS], key=lambda sheet: sheet.number)

    @cached_property
    def hidden(self) -> list[Sheet]:
        """Those without a box."""
        return [sheet for sheet in self.sheets if sheet.node.ref not in self._boxes]

    @property
    def extent(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (
            max(box.x for box in self.boxes) + WIDTH + MARGIN,
            max(box.y for box in self.boxes) + HEIGHT + MARGIN + DEEPEST // 2,
        )

    @property
    def totals(self) -> dict[str, str]:
        """Of all artefacts together."""
        manifests = [sheet.manifest for sheet in self.sheets if sheet.manifest is not None]
        spent = {name: sum(each.cost.get(name, 0.0) for each in manifests) for name in ("seconds", "cpu_seconds")}
        return {
            "artefacts": f"{len(self.sheets):,}",
            "bytes": size(sum(each.total_bytes for each in manifests)),
            **{name.replace("_", " "): _amount(name, value) for name, value in spent.items()},
            "failed checks": f"{sum(not check.passed for each in manifests for check in each.checks):,}",
            "faults": f"{sum(len(sheet.faults) for sheet in self.sheets):,}",
        }

    def anchor(self, ref: Ref) -> str:
        """Where on the page an artefact's sheet is; "" where it has none."""
        return self._anchors.get(ref, "")

    @cached_property
    def _anchors(self) -> dict[Ref, str]:
        return {sheet.node.ref: f"a{sheet.number}" for sheet in self.described}

    def _place(self) -> None:
        layers: dict[int, list[Sheet]] = defaultdict(list)
        for sheet in self.sheets:
            layers[self._depths[sheet.node.ref]].append(sheet)
        used: dict[Ref, list[int]] = defaultdict(list)  # how high the children stand that are drawn
        tallest = min(max(map(len, layers.values())), MOST_IN_LAYER + 1) * DOWN
        for depth in range(len(layers)):
            x = MARGIN + (len(layers) - 1 - depth) * ACROSS
            members = sorted(layers[depth], key=lambda each: (not each.faults, each.node.ref not in used, each.number))
            drawn = sorted(members[:MOST_IN_LAYER], key=lambda each: (_mean(used[each.node.ref]), each.number))
            rows = len(drawn) + (len(members) > len(drawn))
            y = MARGIN + (tallest - rows * DOWN) // 2
            for row, sheet in enumerate(drawn):
                self._boxes[sheet.node.ref] = Box(x, y + row * DOWN, sheet)
                for parent in sheet.node.parents:
                    used[parent.ref].append(y + row * DOWN)
            if len(members) > len(drawn):
                self._more[depth] = Box(x, y + len(drawn) * DOWN, None, len(members) - len(drawn))


def _depths(nodes: Iterable[Node]) -> dict[Ref, int]:
    """How many steps each is from the top, by the longest way; so every arrow leads from the left to the right."""
    parents = {node.ref: dict.fromkeys(parent.ref for parent in node.parents) for node in nodes}
    waiting: dict[Ref, int] = defaultdict(int)  # children that are not placed yet
    for each in parents.values():
        for parent in each:
            waiting[parent] += 1
    depths = {ref: 0 for ref in parents if not waiting[ref]}
    queue = list(depths)
    for ref in queue:  # grows as it goes
        for parent in parents[ref]:
            depths[parent] = max(depths.get(parent, 0), depths[ref] + 1)
            waiting[parent] -= 1
            if not waiting[parent]:
                queue.append(parent)
    return depths


def _mean(heights: list[int]) -> float:
    return sum(heights) / len(heights) if heights else 0.0


def _curve(start: Box, end: Box) -> str:
    """To the next layer straight on; over several, in a bow below the boxes between."""
    x, y, to_x, to_y = start.x + WIDTH, start.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
    layers = (to_x - start.x) // ACROSS
    bow = min(40 + 12 * layers, DEEPEST) if layers > 1 else 0
    reach = min((to_x - x) // 2, ACROSS // 2)
    return f"M{x} {y}C{x + reach} {y + bow} {to_x - reach} {to_y + bow} {to_x} {to_y}"


def _amount(name: str, value: float) -> str:
    if "bytes" in name:
        return size(int(value))
    return f"{value:,.1f} s" if name.endswith("seconds") else f"{value:,.4g}"


def to_page(top: Node) -> str:
    """The HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    redact = redactor()

    def shown(value: Any) -> Any:
        return redact(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("pipelines.store"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    style = environment.get_template("lineage.css.j2").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("lineage.html.j2").render(
        drawing=Drawing(top), style=Markup(style), digest=digest, width=WIDTH, height=HEIGHT, most_files=MOST_FILES
    )
