"""Stage `scores`: a checkpoint plays a game under a named protocol, next to random play under the same one.

Greedy play is batched over all episodes; beam search takes about a hundred times as long a decision, so recipes give
it fewer or shorter episodes and the artefact says which. Run: `worldline evaluate EXPERIMENT --games Freeway`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from models.jowa.policy import JowaPolicy
from models.planning.beam import Beam
from pipelines.atari.actions import legal_mask
from pipelines.atari.games import game_id, rom_md5
from pipelines.atari.protocols import protocol
from pipelines.atari.rollout import Act, Reset, Rollout, play
from pipelines.atari.scores import iqm
from pipelines.configs.learn import EvaluateConfig
from pipelines.errors import UsageError
from pipelines.store.draft import Draft
from pipelines.store.report import Report
from pipelines.store.store import Store
from pipelines.training.checkpoint import MODEL, TOKENIZER, load_model, load_tokenizer
from pipelines.training.device import Device, pick

FILM_FRAMES = 240  # of the first greedy episode; every second one is shown
GIF_SCALE = 2


def run(config: EvaluateConfig, store: Store) -> Report:
    """Score a checkpoint on one game, or find its scores."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: EvaluateConfig, draft: Draft) -> None:
    rules = protocol(config.protocol)
    device = pick(config.precision)
    greedy = _play_agent(config, draft, device, beam=None)
    rollouts: dict[str, Rollout] = {"greedy": greedy, "random": _play_random(config)}
    if config.beam_episodes:
        rollouts["beam"] = _play_agent(config, draft, device, Beam(config.beam_width, config.beam_horizon))
    _episode_table(rollouts).to_parquet(draft.path("episodes.parquet"), index=False)
    _gif(greedy.frames, draft.path("play.gif"))
    draft.metrics |= {name: _summary(rollout) for name, rollout in rollouts.items()}
    if config.beam_episodes and config.beam_steps:
        draft.metrics["beam"]["max_steps"] = config.beam_steps
    draft.metrics["behaviour"] = _behaviour(config, draft)
    draft.metrics["device"] = str(device)
    draft.roots.append(
        {"game": config.game, "rom_md5": rom_md5(config.game), "protocol": rules.name, "sticky": rules.sticky}
    )
    draft.counts |= {
        "episodes": sum(len(rollout.episodes) for rollout in rollouts.values()),
        "steps": sum(episode.length for rollout in rollouts.values() for episode in rollout.episodes),
    }
    ours, chance = draft.metrics["greedy"], draft.metrics["random"]
    draft.check(
        "beats_random",
        ours["mean"] > chance["mean"],
        f"greedy {ours['mean']:.1f} ± {ours['std']:.1f} over {ours['episodes']} episodes, "
        f"random {chance['mean']:.1f} ± {chance['std']:.1f} over {chance['episodes']}",
    )


def _play_agent(config: EvaluateConfig, draft: Draft, device: Device, beam: Beam | None) -> Rollout:
    if config.checkpoint is None:
        raise UsageError(f"Scores of {config.game} need a checkpoint: name its artefact")
    holder = draft.parents[config.pretrained or config.checkpoint]
    if TOKENIZER not in holder.names():
        raise UsageError(f"Scores of {config.game}: {holder.ref} holds no tokenizer, name the artefact that does")
    episodes = config.beam_episodes if beam else config.episodes
    policy = JowaPolicy(
        load_model(draft.parents[config.checkpoint].path(MODEL), device),
        load_tokenizer(holder.path(TOKENIZER), device),
        torch.full((episodes,), game_id(config.game), device=device.name),
        torch.as_tensor(np.tile(legal_mask(config.game), (episodes, 1))).to(device.name),
        context=config.context,
        epsilon=config.epsilon,
        planner=beam,
        seed=config.seed,
    )

    def act(frames_NHW: NDArray[np.uint8]) -> NDArray[np.integer]:
        with torch.inference_mode(), device.autocast():
            return policy.act(torch.as_tensor(frames_NHW).to(device.name)).cpu().numpy()

    planner = f"beam {beam.width}x{beam.horizon}" if beam else "greedy"
    max_steps = (config.beam_steps if beam else 0) or config.max_steps
    return _play(config, act, policy.reset, episodes, max_steps, 0 if beam else FILM_FRAMES, planner)


def _play_random(config: EvaluateConfig) -> Rollout:
    draw = np.random.default_rng([config.seed, game_id(config.game)])
    legal = np.flatnonzero(legal_mask(config.game))

    def act(frames_NHW: NDArray[np.uint8]) -> NDArray[np.integer]:
        return draw.choice(legal, len(frames_NHW))

    return _play(config, act, lambda rows: None, config.random_episodes, config.max_steps, 0, "random")


def _play(
    config: EvaluateConfig, act: Act, reset: Reset, episodes: int, max_steps: int, film: int, planner: str
) -> Rollout:
    return play(
        config.game,
        act,
        reset,
        protocol(config.protocol),
        episodes=episodes,
        seed=config.seed,
        max_steps=max_steps,
        film=film,
        title=f"Play {config.game}, {planner}",
    )


def _summary(rollout: Rollout) -> dict[str, float | int]:
    """Statistics of raw returns (arXiv 2410.00564, evaluation), and the mean of the sign-clipped ones."""
    scores = np.array([episode.score for episode in rollout.episodes])
    return {
        "mean": round(float(scores.mean()), 4),
        "std": round(float(scores.std(ddof=1)) if len(scores) > 1 else 0.0, 4),
        "median": float(np.median(scores)),
        "iqm": round(iqm(scores.tolist()), 4),
        "clipped_mean": round(float(np.mean([episode.clipped_score for episode in rollout.episodes])), 4),
        "episodes": len(scores),
        "mean_length": round(float(np.mean([episode.length for episode in rollout.episodes])), 1),
    }


def _behaviour(config: EvaluateConfig, draft: Draft) -> dict[str, float | None]:
    """What the data itself scored at its best and on the whole; None where the replay holds clipped rewards only."""
    if config.collected is None:
        return {"mean": None, "overall_mean": None}
    found = draft.parents[config.collected].manifest.metrics
    return {"mean": found["behaviour_return"], "overall_mean": found["mean_return"]}


def _episode_table(rollouts: dict[str, Rollout]) -> pd.DataFrame:
    rows = [
        {
            "planner": name,
            "episode": episode.episode,
            "seed": episode.seed,
            "return": episode.score,
            "clipped_return": episode.clipped_score,
            "length": episode.length,
            "ended": episode.ended,
        }
        for name, rollout in rollouts.items()
        for episode in rollout.episodes
    ]
    return pd.DataFrame(rows)


def _gif(frames_SHW: NDArray[np.uint8], path: Path) -> None:
    """The start of the first episode, every second agent step at real speed (15 agent steps a second)."""
    pictures = [Image.fromarray(frame).resize((84 * GIF_SCALE, 84 * GIF_SCALE), 0) for frame in frames_SHW[::2]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=133, loop=0, optimize=True)
