"""A small hand-made graph, written through the real store: two games, one experiment, ROM to score."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipelines.plots.training import draw_curves, draw_sheet
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store

SIGHT = {
    "codes_used": 61,
    "perplexity": 38.5,
    "changed_share": 0.021,
    "reconstruction_error": 0.012,
    "mean_frame_error": 0.048,
    "next_frame_error": 0.019,
    "copy_last_error": 0.052,
}
FIFTHS = {"Freeway": [0.6, 4.8, 10.2, 15.9, 19.8], "Boxing": [1.5, 12.0, 31.0, 50.5, 66.0]}
RETURNS = {"Freeway": [20, 21, 21, 19, 20, 21, 20, 20], "Boxing": [31, 44, 52, 28, 60, 47, 39, 51]}
ROMS = {"Freeway": "8e0ab801b1705a740b476b7f588c6d16", "Boxing": "c3ef50ee0972e8c27bd5ce0ab2cf4ec6"}
RANDOM = {"Freeway": 0.0, "Boxing": 0.5}


@dataclass(frozen=True)
class Board:
    """`scores` by game; `pretrained` and `agent` are the two training stages they share."""

    store: Store
    scores: dict[str, Artefact]
    pretrained: Artefact
    agent: Artefact


def make(
    store: Store, stage: str, subject: str, parents: tuple[Ref, ...] = (), files: Any = None, **fields: Any
) -> Artefact:
    """One artefact with `fields` of the draft set; `config` goes into the spec, `files(draft)` writes more."""

    def build(draft: Draft) -> None:
        for name, value in fields.items():
            setattr(draft, name, value)
        draft.path("note.txt").write_text(stage)
        if files:
            files(draft)

    return store.produce(Spec(stage, subject, "1", fields.pop("config", {}), parents), build).artefact


def summary(returns: list[float]) -> dict[str, float]:
    """What a score's metrics say about one planner."""
    return {
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "median": float(np.median(returns)),
        "iqm": float(np.mean(sorted(returns)[1:-1] or returns)),
        "clipped_mean": float(np.mean(returns)),
        "episodes": len(returns),
        "mean_length": 2048.0,
    }


def episodes(planner: str, returns: list[float], ended: str) -> pd.DataFrame:
    """Rows of episodes.parquet."""
    return pd.DataFrame(
        {
            "planner": planner,
            "episode": range(len(returns)),
            "seed": range(len(returns)),
            "return": [float(value) for value in returns],
            "clipped_return": [float(value) for value in returns],
            "length": 2048,
            "ended": ended,
        }
    )


def data(store: Store, game: str) -> Artefact:
    """Collection, replay and trajectories of one game."""
    root = {"game": game, "rom_md5": "8e0ab801b1705a740b476b7f588c6d16", "policy": "script", "seeds": [0, 1]}
    collected = make(
        store,
        "collected_replay",
        game,
        counts={"frames": 30_000, "episodes": 16},
        roots=[root],
        metrics={"fifths": [{"mean_return": mean, "episodes": 3} for mean in FIFTHS[game]]},
        config={"game": game},
    )
    replays = tuple(
        make(store, "replay", f"{game}/{agent}", (collected.ref,), config={"game": game, "agent": agent}).ref
        for agent in (1, 2)
    )
    return make(
        store, "trajectories", game, replays, counts={"episodes": 12, "transitions": 24_000}, config={"game": game}
    )


def training_files(draft: Draft) -> None:
    """metrics.jsonl, curves.png and a sheet per game."""
    generator = np.random.default_rng(0)
    rows = [
        {"phase": phase, "step": step, "seconds": 0.1 * step, name: float(2 * np.exp(-step / 20) + 0.1)}
        for phase, name in (("tokenizer", "reconstruction"), ("world_model", "observations"))
        for step in range(50)
    ]
    draft.path("metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(rows, draft.path("curves.png"))
    frames = np.zeros((8, 84, 84), dtype=np.uint8)
    frames[:, 20:40, 30:36] = generator.integers(0, 255, (8, 20, 6), dtype=np.uint8)
    for game in FIFTHS:
        draw_sheet({"original": frames, "reconstruction": frames // 2}, draft.path(f"sheet_{game}.png"), game)


def score_files(game: str) -> Any:
    """episodes.parquet and play.gif."""

    def write(draft: Draft) -> None:
        table = [episodes("greedy", RETURNS[game], "terminated"), episodes("random", [RANDOM[game]] * 4, "truncated")]
        table.append(episodes("beam", RETURNS[game][:2], "limit"))
        pd.concat(table).to_parquet(draft.path("episodes.parquet"))
        stills = [Image.new("L", (84, 84), 40 * shade) for shade in range(4)]
        stills[0].save(draft.path("play.gif"), save_all=True, append_images=stills[1:], duration=80, loop=0)

    return write


def build(store: Store) -> Board:
    """The whole graph."""
    trajectories = {game: data(store, game) for game in FIFTHS}
    behind = tuple(found.ref for found in trajectories.values())
    losses = {"reconstruction": 0.0123, "observations": 1.234}
    sight = dict.fromkeys(FIFTHS, SIGHT)
    metrics = {"losses": losses, "sight": sight}
    pretrained = make(store, "pretrained", "demo", behind, training_files, metrics=metrics)
    later = {
        "losses": {"q": 0.5},
        "sight": {game: {"next_frame_error": 0.06, "copy_last_error": 0.05} for game in FIFTHS},
    }
    agent = make(store, "world_action_model", "demo", (pretrained.ref, *behind), metrics=later)
    scores = {}
    for game, returns in RETURNS.items():
        scores[game] = make(
            store,
            "scores",
            game,
            (agent.ref,),
            score_files(game),
            config={"game": game, "protocol": "jowa", "episodes": 8, "beam_width": 2, "beam_horizon": 3},
            roots=[{"game": game, "rom_md5": ROMS[game], "protocol": "jowa", "replays_rom": True}],
            metrics={
                "greedy": summary(returns),
                "beam": summary(returns[:2]) | {"max_steps": 500},
                "random": summary([RANDOM[game]] * 4),
                "behaviour": {"mean": FIFTHS[game][-1], "clipped_mean": FIFTHS[game][-1]},
            },
        )
    return Board(store, scores, pretrained, agent)
