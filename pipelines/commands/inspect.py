"""Commands that look: games, artefacts, lineage, set-up, parity; and `gc`, which tidies."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.commands.graph import Launch
from pipelines.commands.options import Storage, artefact_named, has_parts, profile_and_store
from pipelines.errors import Members, UsageError, unknown
from pipelines.progress import WIDE, printer, size

if TYPE_CHECKING:
    from pipelines.store.lineage import Node
    from pipelines.store.ref import Ref
    from pipelines.store.store import Store

PANEL = "Look and tidy"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("list", rich_help_panel=PANEL)(list_artefacts)
    for command in (games, lineage, verify, doctor, gc, parity):
        app.command(rich_help_panel=PANEL)(command)


def games(storage: Storage = None) -> None:
    """The 60 games of DQN-Replay, Crafter and the 50 tasks of Meta-world, and what exists for each in the store.

    Of games, also their actions, script and references. Of Meta-world's tasks, those that the store has have a row.

    Example: worldline games
    """
    from pipelines.environments.actions import own_actions
    from pipelines.environments.atari.games import SCRIPTS
    from pipelines.environments.atari.reference_scores import reference
    from pipelines.environments.metaworld.game import TASKS
    from pipelines.environments.registry import GAMES, achievements

    _, store = profile_and_store(storage)
    made: dict[str, set[str]] = {}
    members = Members()
    for name in store.pointers(members):
        stage, *parts = name.split("/")
        for part in parts:
            made.setdefault(part, set()).add(stage)
    table = Table(
        "id", "game", "actions", "script", "random", "human", "DQN", "in the store", box=None, header_style="bold"
    )
    unplayed: list[str] = []
    for number, game in enumerate(GAMES):
        if game in TASKS and game not in made:
            continue
        known = reference(game)
        if (known is None or known.human is None) and not achievements(game):
            unplayed.append(game)
        table.add_row(
            str(number),
            game,
            "4 numbers" if game in TASKS else str(len(own_actions(game))),
            "yes" if game in SCRIPTS else "",
            f"{known.random:,.1f}" if known else "",
            f"{known.human:,.1f}" if known and known.human is not None else "",
            f"{known.dqn:,.1f}" if known and known.dqn is not None else "",
            ", ".join(sorted(made.get(game, ()))),
        )
    printer().print(table)
    print(
        f"No human score is known of {', '.join(unplayed)}, which are not among the 57 games of Mnih et al. 2015 and "
        "Wang et al. 2016. Without one, a game is left out of human-normalised scores. Sources and protocols: "
        "references.csv of 'worldline report'."
    )
    print(
        f"{', '.join(game for game in GAMES if achievements(game) and game not in TASKS)} is judged by its "
        "achievements, beside published agents and humans in a table of its own of 'worldline report'; no replay of it "
        "is published."
    )
    print(
        f"Meta-world's {len(TASKS)} tasks are games too, played with 4 numbers an action and judged by their successes "
        f"in a table of their own: {', '.join(TASKS)}."
    )
    members.end()


def list_artefacts(
    name: Annotated[str, typer.Argument(help="Only what has this in its name: demo, scores (default: all).")] = "",
    storage: Storage = None,
) -> None:
    """Every artefact with its size, and the names that point at it.

    Example: worldline list, or worldline list scores/demo
    """
    _, store = profile_and_store(storage)
    names: dict[str, list[str]] = {}
    members, pointing = Members(), Members()
    for pointer, ref in store.pointers(pointing).items():
        names.setdefault(str(ref), []).append(pointer)
    found = False
    for artefact in store.artefacts(members=members):
        called = names.get(str(artefact.ref), [])
        if not any(has_parts(each, name) for each in (str(artefact.ref), *called)):
            continue
        found = True
        manifest = artefact.manifest
        print(f"{artefact.ref}  {size(manifest.total_bytes)}  {manifest.created}  {' '.join(called) or '(no name)'}")
    if name and not found and members.tried:
        raise unknown("name", name, {part for each in pointing.tried for part in each.split("/")}, "'worldline list'")
    if not found and not members.failed:
        print(f"The store {store.where} is empty: worldline demo")
    members.take(pointing)
    members.end()


def lineage(
    ref: Annotated[str, typer.Argument(help="A name (scores/EXPERIMENT/Freeway) or a full address.")],
    verify: Annotated[bool, typer.Option("--verify", help="Re-hash every file; exit 1 at any mismatch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page here: the graph drawn, manifests, cost, checks (default: print a tree)."),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="As others write it: ro-crate, openlineage or prov (default: as we do).")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Where to: a file, a folder for ro-crate (default: print it).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out or --html.")] = False,
    storage: Storage = None,
) -> int:
    """What an artefact was made from, down to remote objects or ROMs, policy and seeds.

    --to ro-crate copies every manifest into a folder that describes itself; openlineage is a run event a line; prov is
    PROV-JSON. All of them need a lineage that is whole.

    Example: worldline lineage scores/demo-1a2b3c4d/Freeway --verify

    Example: worldline lineage trajectories/Pong --to ro-crate --out crates/pong
    """
    from pipelines.store.lineage import flat, to_json, to_tree, walk
    from pipelines.store.lineage import verify as find_faults

    _require_place(to, out, html, overwrite, as_json)
    _, store = profile_and_store(storage)
    address = artefact_named(ref, store)
    top = walk(store, address)
    if to:
        _write_document(to, out, store, address, overwrite)
    elif as_json:
        print(to_json(top))
    elif html is not None:
        _write_page(html, top)
    else:
        # Wide enough for every fact: a terminal wraps long lines itself, a file or a pipe keeps them whole.
        Console(width=WIDE).print(to_tree(top), soft_wrap=True)
    if not verify:
        return 0
    faults = find_faults(store, address)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        every = flat(top)
        elsewhere = sum(node.elsewhere is not None for node in every)
        more = f" {elsewhere} more are elsewhere: their manifests are those that were pinned." if elsewhere else ""
        print(f"Verified: {len(every) - elsewhere} artefacts, every file as its manifest says.{more}", file=sys.stderr)
    return 1 if faults else 0


def _write_page(path: Path, top: "Node") -> None:
    from pipelines.store.files import write_whole
    from pipelines.store.lineage_page import to_page

    try:
        write_whole(path, to_page(top).encode(), path.parent / f".{path.name}.{os.getpid()}.partial")
    except OSError as error:
        raise UsageError(f"The page cannot be written to {path} ({error.strerror}): choose another file") from error
    print(f"Wrote {path}")


def _require_place(to: str, out: Path | None, html: Path | None, overwrite: bool, as_json: bool) -> None:
    if to not in ("", "ro-crate", "openlineage", "prov"):
        raise unknown("format", to, ("ro-crate", "openlineage", "prov"), "formats for lineage")
    if to and (as_json or html is not None):
        raise UsageError(f"--to {to} is one view of the lineage, --json and --html are others: ask for one at a time")
    if as_json and html is not None:
        raise UsageError(f"--json prints the lineage and --html {html} draws it: ask for one at a time")
    if to == "ro-crate" and out is None:
        raise UsageError("A ro-crate is a folder: add --out DIR")
    if (out is not None and not to) or (overwrite and out is None and html is None):
        raise UsageError("--out and --overwrite say where a document goes: add --to openlineage --out FILE")
    if html is not None and html.is_file() and not overwrite:
        raise UsageError(f"{html} is there: add --overwrite or choose another --html")


def _write_document(to: str, out: Path | None, store: "Store", ref: "Ref", overwrite: bool) -> None:
    from pipelines.tools.exports.export import Export, export
    from pipelines.tools.exports.lineage_documents import LineageDocument, raw_manifest, whole_lineage
    from pipelines.tools.exports.ro_crate import RoCrate

    lineage = whole_lineage(store, [ref])
    if out is None:
        print(LineageDocument(lineage, to, "").text(), end="")
        return
    out = out.absolute()
    what: Export
    if to == "ro-crate":
        what = RoCrate(lineage, [raw_manifest(store, each) for each in lineage], out.name)
    else:
        what = LineageDocument(lineage, to, out.name)
    print(export(lineage[0], what, out.parent, overwrite))


def verify(
    nights: Annotated[int, typer.Option(help="All is looked at within so many nights; 1 is all of it now.")] = 30,
    day: Annotated[str, typer.Option(help="Whose share, such as 2026-11-27 (default: today's).")] = "",
    storage: Storage = None,
) -> int:
    """Re-hash the artefacts whose turn it is, and hold all names against Dagster's own record; exit 1 at any fault.

    'worldline automate on nightly_verify' does so every night. What plain commands made, without Dagster, is unknown to
    it until 'worldline doctor --rebuild' tells it.

    Example: worldline verify --nights 1
    """
    from pipelines.commands.graph import Launch

    return Launch(("verify", "--nights", str(nights), "--day", day), storage).run()


def doctor(
    init: Annotated[bool, typer.Option("--init", help="Set up Dagster's home; fail dead runs.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Tell a new Dagster home what stands in the store; implies --init.")
    ] = False,
    storage: Storage = None,
) -> int:
    """What is wrong with this set-up, and how to mend it. Exit 1 when something is.

    With --storage it also asks the profile's buckets: what the source of replay answers, whether artefacts can be
    written.

    Example: worldline doctor --init
    Example: worldline doctor --storage rlu
    """
    from pipelines.tools.doctor import all_ok, diagnose

    if (init or rebuild) and (code := Launch(("rebuild" if rebuild else "init",), storage).run()):
        return code
    findings = diagnose(storage)
    for finding in findings:
        mark = "[green]ok[/green]  " if finding.ok else "[red]FAIL[/red]"
        printer().print(f"{mark} {finding.name}: {escape(finding.value)}", highlight=False, soft_wrap=True)
        if not finding.ok:
            printer().print(f"     mend: {escape(finding.repair)}", highlight=False, soft_wrap=True)
    return 0 if all_ok(findings) else 1


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Really delete; without it nothing is touched.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also what begun runs would go on from (resumable states, episodes).")
    ] = False,
    runs_older_than: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=0, help="Instead: old runs of Dagster (default: none)."),
    ] = None,
    storage: Storage = None,
) -> Launch | None:
    """Remove artefacts that no name leads to, and what killed processes left; list runs that were not finished.

    With --runs-older-than, Dagster's history forgets runs that ended so long ago, with what they printed, but for those
    that hold the newest record of an asset's partition. Artefacts and their lineage are not there, and stay.

    Example: worldline gc, then worldline gc --yes

    Example: worldline gc --runs-older-than 90 --yes
    """
    if runs_older_than is not None:
        return Launch(("forget", "--days", str(runs_older_than), *["--yes"] * yes))
    from pipelines.store.gc import collect

    _, store = profile_and_store(storage)
    members = Members()
    garbage = collect(store, dry_run=not yes, drop_unfinished=unfinished, members=members)
    for artefact in garbage.artefacts:
        print(artefact.ref)
    for path in garbage.leftovers:
        print(path)
    for begun in garbage.unfinished:
        hours = max(time.time() - begun.written, 0.0) / 3600
        age = f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"
        print(f"{begun.ref}: not finished, {size(begun.bytes)}, last written {age} ago")
    if garbage.unfinished and not unfinished:
        total = size(sum(begun.bytes for begun in garbage.unfinished))
        print(
            f"{len(garbage.unfinished)} unfinished runs, {total}, stay: the same commands go on from them "
            "('worldline gc --unfinished' drops them)"
        )
    done = "removed" if yes else "would be removed (add --yes)"
    begun_too = f"{len(garbage.unfinished)} unfinished runs, " if unfinished else ""
    print(
        f"{len(garbage.artefacts)} artefacts, {len(garbage.leftovers)} leftovers, {begun_too}"
        f"{size(garbage.bytes)} {done}"
    )
    members.end()
    return None


def parity(file: Annotated[Path, typer.Argument(help="A golden file (.npz).")]) -> int:
    """Check our models against numbers of the original implementation; exit 1 if any differs.

    Example: worldline parity tests/golden/jowa_c51_cql_q1.npz
    """
    from pipelines.tools.parity import check_file

    checks = check_file(file)
    for check in checks:
        error = "-" if check.note else f"{check.error:.1e}"
        print(f"{check.name:60} {error:>10}  {'ok' if check.ok else 'FAIL'}{f': {check.note}' if check.note else ''}")
    failed = sum(not check.ok for check in checks)
    uncovered = sum(bool(check.note) for check in checks)
    print(f"{len(checks) - failed} ok, {failed} failed" + (f", of them {uncovered} not compared" if uncovered else ""))
    return 1 if failed else 0
