"""The last page of `worldline demo`: what was made, what it cost, how the agent plays, and what to try next.

Everything is read from manifests; nothing here computes a result. `published` is the table of `report --published`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from pipelines.evaluation.player_settings import told_of
from pipelines.evaluation.pool import planners_of
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import POINTER
from pipelines.graph.table import DATA_STAGES, NAMES
from pipelines.progress import printer
from pipelines.stages.evaluate import spread
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store

if TYPE_CHECKING:
    from pipelines.evaluation.achievements import Bounded


def summarise(experiments: Sequence[Experiment], store: Store) -> None:
    """Print the summary of a finished experiment, and how it did beside those that were made with it."""
    experiment, *others = experiments
    made = _artefacts(experiment, store)
    out = printer()
    out.print(f"\n[bold]{experiment.key}[/bold]")
    out.print(_stages(made))
    out.print(_agents(made))
    planners = {planner for artefact in made.get("scores", []) for planner in planners_of(artefact)}
    out.print(f"[bold]Agents[/bold]       {told_of(planners)}", soft_wrap=True)
    out.print(_sight(made))
    if others:
        out.print(_beside(experiments, store))
    losses = [
        f"{stage}: " + ", ".join(f"{name} {found[name]:.3g}" for name in found if not name.startswith("grad_norm"))
        for stage, artefacts in made.items()
        for found in [artefact.manifest.metrics.get("losses") for artefact in artefacts]
        if found
    ]
    out.print("[bold]Last losses[/bold]  " + "; ".join(losses), soft_wrap=True)
    board = store.find(store.resolve(POINTER))
    if board is not None:
        out.print(f"[bold]Report[/bold]       {board.path('index.html')}", soft_wrap=True)
    out.print("[bold]Try next[/bold]     worldline ui", soft_wrap=True)
    out.print(
        f"             worldline lineage scores/{experiment.key}/{experiment.recipe.games[-1]} --verify", soft_wrap=True
    )


def _beside(experiments: Sequence[Experiment], store: Store) -> Table:
    """Each recipe's success rate and return over its seeds and their episodes, with 95% intervals, and chance's."""
    import pandas as pd

    from pipelines.evaluation.achievements import of_table

    table = Table("recipe", "game", "seeds", "success rate (%)", "mean return", "random", box=None, header_style="bold")
    found: dict[tuple[str, str], list[tuple[pd.DataFrame, Artefact]]] = {}
    for experiment in experiments:
        for artefact in _artefacts(experiment, store)["scores"]:
            (planner, *_) = planners_of(artefact)
            episodes = pd.read_parquet(artefact.path("episodes.parquet"))
            episodes = episodes[episodes["planner"] == planner].assign(run=experiment.key)
            found.setdefault((experiment.recipe.name, artefact.manifest.subject), []).append((episodes, artefact))
    for (name, game), runs in found.items():
        figures = of_table(game, pd.concat([episodes for episodes, _ in runs]), "run")
        chance = [artefact.manifest.metrics["random"]["mean"] for _, artefact in runs]
        told = ["-", "-"] if figures is None else [_bounded(figures.score), _bounded(figures.returns)]
        table.add_row(name, game, str(len(runs)), *told, f"{sum(chance) / len(chance):.1f}")
    return table


def _bounded(found: "Bounded") -> str:
    return f"{found.value:.1f}" + ("" if found.low is None else f" [{found.low:.1f}, {found.high:.1f}]")


def published(benchmark: str = "") -> Table:
    """What others printed of their agents, beside what their raw scores give; of one benchmark, or of all.

    Raises UsageError for an unknown benchmark.
    """
    from pipelines.leaderboard.ranking import reproductions
    from pipelines.leaderboard.tables import PUBLISHED_HEAD, published_cells

    table = Table(*PUBLISHED_HEAD, box=None, header_style="bold")
    for row in reproductions(benchmark):
        table.add_row(*published_cells(row))
    return table


def _artefacts(experiment: Experiment, store: Store) -> dict[str, list[Artefact]]:
    """The experiment's artefacts by stage, as its scores' lineage names them."""
    from pipelines.store.lineage import flat, walk

    found: dict[str, dict[str, Artefact]] = {stage: {} for stage in NAMES}
    for game in experiment.recipe.games:
        for node in flat(walk(store, store.resolve(f"scores/{experiment.key}/{game}"))):
            if node.artefact is not None:
                found[node.ref.stage][str(node.ref)] = node.artefact
    return {stage: list(artefacts.values()) for stage, artefacts in found.items() if artefacts}


def _stages(made: dict[str, list[Artefact]]) -> Table:
    table = Table("stage", "for", "counts", "MB", "seconds", box=None, header_style="bold")
    for stage in NAMES:
        for artefact in made.get(stage, []):
            manifest = artefact.manifest
            counts = ", ".join(f"{value:,} {name}" for name, value in manifest.counts.items())
            size, seconds = f"{manifest.total_bytes / 1e6:,.1f}", f"{manifest.cost['seconds']:,.1f}"
            table.add_row(stage if stage in DATA_STAGES else f"[bold]{stage}", manifest.subject, counts, size, seconds)
    return table


def _agents(made: dict[str, list[Artefact]]) -> Table:
    table = Table("game", "agent", "mean return", "episodes", "random", "behaviour data", box=None, header_style="bold")
    for artefact in made.get("scores", []):
        metrics = artefact.manifest.metrics
        behaviour = metrics["behaviour"]["mean"]
        for planner in planners_of(artefact):
            ours = metrics[planner]
            cut = f", cut at {ours['max_steps']} steps" if "max_steps" in ours else ""
            table.add_row(
                artefact.manifest.subject,
                planner,
                spread(ours),
                f"{'one' if ours['episodes'] == 1 else ours['episodes']}{cut}",
                f"{metrics['random']['mean']:.1f}",
                "-" if behaviour is None else f"{behaviour:.1f}",
            )
    return table


def _sight(made: dict[str, list[Artefact]]) -> Table:
    table = Table(
        "sight on changing pixels", "perplexity", "reconstruction", "mean frame", "next frame", "copy of last",
        box=None, header_style="bold",
    )  # fmt: skip
    for stage, artefacts in made.items():
        for artefact in artefacts:
            if found := artefact.manifest.metrics.get("foreseen"):
                names = ("seen_error", "mean_frame_error", "foreseen_error", "copy_last_error")
                table.add_row(f"held-out videos ({stage})", "-", *(f"{found[name]:.1f}" for name in names))
            for game, sight in artefact.manifest.metrics.get("sight", {}).items():
                seen = "" if sight.get("held_out_episodes", 1) else ", on frames it learned from"
                table.add_row(
                    f"{game} ({stage}{seen})",
                    f"{sight['perplexity']:.0f}",
                    *(
                        f"{sight[name]:.1f}"
                        for name in ("reconstruction_error", "mean_frame_error", "next_frame_error", "copy_last_error")
                    ),
                )
    return table
