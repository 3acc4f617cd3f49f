"""`worldline export browser`: a world model as static files that play in the visitor's own browser."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.hub import WhoseGame
from pipelines.commands.options import ExperimentName, Storage, profile_and_store
from pipelines.commands.play import config_of
from pipelines.play.source import PlaySource, Start

if TYPE_CHECKING:
    from pipelines.tools.exports.browser import Opening

BEGINNINGS = 4
RUNTIME = "ONNX Runtime's npm package, as 'npm pack' wrote it (default: npm is asked for it)."


def export_browser(
    experiment: ExperimentName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write.")],
    game: WhoseGame = "",
    runtime: Annotated[Path | None, typer.Option(metavar="FILE.tgz", help=RUNTIME)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands there.")] = False,
    storage: Storage = None,
) -> None:
    """A world model as a folder of static files: one plays inside it in a browser, with no Python and no game behind.

    Networks go out as ONNX, with ONNX Runtime from its npm package beside them; 100 steps of a dream must be those of
    the agent itself. For networks of the demo's size. Needs pip install 'worldline\\[browser]'.

    Example: worldline export browser demo --game Boxing --to exports/boxing, then python -m http.server -d
    exports/boxing --bind 127.0.0.1
    """
    from pipelines.stages.record import opened, source_of
    from pipelines.store.lineage import to_json, walk
    from pipelines.tools.exports import browser, onnx_runtime_web
    from pipelines.tools.exports.export import export

    _, store = profile_and_store(storage)
    _, config = config_of(experiment, game, {"mode": "dream", "precision": "float32"}, None, storage)
    assert config.agent is not None, "config_of asks for it"
    source, artefact = source_of(config, opened(config, store)), store.open(config.agent)
    try:
        browser.require_portable(source.agent, source.agent.config.family)
        openings = _openings(source)
    finally:
        for episodes in source.sets.values():
            episodes.close()
    for network in source.agent.networks.values():
        network.cpu()  # a page has no GPU, and what goes out is compared on the processor
    browser.require_fast(source.agent, openings[0], config.game)
    files = onnx_runtime_web.files_of(runtime)
    to = to.absolute()
    lineage = to_json(walk(store, config.agent))
    what = browser.BrowserFolder(artefact, source.agent, config.game, openings, files, lineage, to.name)
    print(export(artefact, what, to.parent, overwrite))


def _openings(source: PlaySource) -> "list[Opening]":
    """Real beginnings: places of recorded episodes where there are any, else the emulator's start."""
    from pipelines.play.tensors import Eyes
    from pipelines.tools.exports.browser import Opening

    starts = [Start()]
    if (recorded := source.sets.get("recorded")) is not None:
        lengths = recorded.lengths
        chosen = sorted({number * len(lengths) // BEGINNINGS for number in range(BEGINNINGS)})
        starts += [Start(each, (at + 1) * lengths[each] // (BEGINNINGS + 1)) for at, each in enumerate(chosen)]
    eyes, found = Eyes(source), []
    for start in starts:
        real = replace(source, start=start).beginning(source.seed)
        found.append(Opening(eyes.tokens(real.frames).cpu().numpy(), real.actions, real.told))
    return found
