"""What tells whether an agent in training sees and plays: figures and sheets of held-out frames, and greedy play.

A tokenizer may reach a low loss by drawing the background alone. So errors are measured on the pixels that change
between two frames, of held-out episodes where there are any, next to simple baselines: the game's mean frame for the
reconstruction, a copy of the last frame for the world model's prediction. All errors are mean absolute differences on
the 0..255 scale. Cost on the demo: about 2 s a game on two cores. `CheckpointManager` judges kept checkpoints by
`mean_returns`.

Letters: P frame pairs, C context steps, H and W pixels, K tokens a frame.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.api import Agent, Context, WorldModel
from models.losses.frames import code_perplexity
from models.worlds import TellsChanges
from pipelines.batches.loader import SegmentSource, Source, widened
from pipelines.environments.registry import Rules, protocol
from pipelines.environments.rollout import Episode, EpisodeBatch, play
from pipelines.evaluation.player_settings import PlayerSettings
from pipelines.evaluation.players import AgentPlayer
from pipelines.plots import training as pictures
from pipelines.training.device import Device
from pipelines.training.distributed.ranks import Ranks
from pipelines.training.inputs import channels_first, mean_frame
from pipelines.training.schedule import LoopConfig

FRAMES_AT_ONCE = 64
FORESEEN = 256
PAIRS_AT_ONCE = 32
PLAY_PROTOCOL = "jowa"
PLAY_CONTEXT = 4  # newest steps the policy sees
PLAY_EPSILON = 0.001
PLAY_SEED = 1_000_003  # not those of the scores


@dataclass(frozen=True)
class Sight:
    """One game's figures."""

    codes_used: int  # 0 where the family has no tokens
    perplexity: float
    changed_share: float  # of all pixels, those that differ between the two frames
    reconstruction_error: float
    mean_frame_error: float
    next_frame_error: float
    copy_last_error: float
    held_out_episodes: int  # that it was measured on; 0: on frames that the agent learned from, there were no others

    @property
    def beats_baselines(self) -> bool:
        """True when reconstruction and prediction are both better than their baselines."""
        return self.reconstruction_error < self.mean_frame_error and self.next_frame_error < self.copy_last_error

    def to_metrics(self) -> dict[str, float]:
        """Rounded, for the manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Pairs:
    """Windows: C context frames, the actions taken at them, and the frame that followed."""

    context_PCHW: NDArray[np.uint8]
    actions_PC: NDArray[Any]  # int64, or (P, C, A) float32 where an action is A numbers
    next_PHW: NDArray[np.uint8]


def last_pairs(source: Source, episodes: int, count: int, context: int, seed: int) -> Pairs:
    """Windows whose C + 1 frames lie within one of the last `episodes`, `count` of them or as many as there are.

    episodes: how many are held out; 0 takes the last one nevertheless. Raises WorldlineError when they are too short.
    """
    frames, actions = source.windows(episodes, context + 1, count, seed)
    return Pairs(frames[:, :-1], actions[:, :-1], frames[:, -1])


def measure(agent: Agent, world: WorldModel, source: Source, pairs: Pairs, held_out: int, device: Device) -> Sight:
    """All figures of one game. held_out: the episodes of `pairs` that no training saw."""
    following = pairs.next_PHW.astype(np.float32)
    last = pairs.context_PCHW[:, -1].astype(np.float32)
    changed = following != last
    before, actions_P = pairs.context_PCHW[:, -1], pairs.actions_PC[:, -1]
    tokens, pictures, vocabulary = told(agent, before, actions_P, pairs.next_PHW, device)
    predicted = predict_next(agent, world, source, pairs, device)

    def error(frames: NDArray[np.float32]) -> float:
        return float(np.abs(frames - following)[changed].mean()) if changed.any() else 0.0

    return Sight(
        codes_used=len(torch.unique(tokens)) if vocabulary else 0,
        perplexity=float(code_perplexity(tokens, vocabulary)) if vocabulary else 0.0,
        changed_share=float(changed.mean()),
        reconstruction_error=error(pictures),
        mean_frame_error=error(np.broadcast_to(mean_frame(source), following.shape)),
        next_frame_error=error(predicted),
        copy_last_error=error(last),
        held_out_episodes=held_out,
    )


def summary(figures: dict[str, Sight]) -> tuple[bool, str]:
    """Whether all games beat both baselines, and the numbers in one line: the `sees` check."""
    parts = [
        f"{game}: reconstruction {sight.reconstruction_error:.1f} against mean frame {sight.mean_frame_error:.1f}, "
        f"next frame {sight.next_frame_error:.1f} against copy {sight.copy_last_error:.1f}, "
        f"code perplexity {sight.perplexity:.0f}, measured on {measured_on(sight.held_out_episodes)}"
        for game, sight in figures.items()
    ]
    return all(sight.beats_baselines for sight in figures.values()), "; ".join(parts)


def measured_on(held_out: int) -> str:
    """In words, what a figure is of."""
    if not held_out:
        return "frames that were learned from (no episode is held out)"
    return f"{held_out} held-out episode{'s' if held_out > 1 else ''}"


def reconstruct(agent: Agent, frames_NHW: NDArray[np.uint8], device: Device) -> tuple[torch.Tensor, NDArray]:
    """Observations (N, K) and reconstructions like the frames, float32 on the 0..255 scale.

    frames_NHW: grey, or (N, H, W, C).
    """
    observations, pictures = [], []
    with torch.no_grad(), device.autocast():
        for block in channels_first(torch.as_tensor(frames_NHW), 3).split(FRAMES_AT_ONCE):
            observations.append(agent.encode(block.to(device.name)))
            pictures.append(draw(agent, observations[-1]))
    return torch.cat(observations), np.concatenate(pictures)


def told(
    agent: Agent, before: NDArray[np.uint8], actions_P: NDArray[Any], after: NDArray[np.uint8], device: Device
) -> tuple[torch.Tensor, NDArray[np.float32], int]:
    """Tokens (P, K) of the frames `after`, these frames as drawn of them, and how many different tokens there are (0:
    the family has none). Where tokens tell changes, the frames before and the actions are known as well.
    """
    if not isinstance(agent, TellsChanges):
        return *reconstruct(agent, after, device), agent.vocabulary
    tokens, pictures, vocabulary = [], [], 0
    with torch.no_grad(), device.autocast():
        for rows in np.array_split(np.arange(len(after)), max(1, -(-len(after) // FRAMES_AT_ONCE))):
            first, second = (channels_first(torch.as_tensor(one[rows]), 3).to(device.name) for one in (before, after))
            found = agent.retell(first, torch.as_tensor(actions_P[rows]).to(device.name), second)
            tokens.append(found[0])
            pictures.append(as_pictures(found[1]))
            vocabulary = found[2]
    return torch.cat(tokens), np.concatenate(pictures), vocabulary


def code_usage(agent: Agent, source: Source, device: Device) -> dict[str, float]:
    """How many codes the frames that training sees are told in, and their perplexity; nothing without tokens."""
    if isinstance(agent, TellsChanges):
        if source.longest(source.episodes) < 2:
            return {}
        frames, actions = source.windows(source.episodes, 2, FRAMES_AT_ONCE, seed=0)
        tokens, _, vocabulary = told(agent, frames[:, 0], actions[:, 0], frames[:, 1], device)
    elif agent.vocabulary:
        (tokens, _), vocabulary = reconstruct(agent, source.spread(FRAMES_AT_ONCE), device), agent.vocabulary
    else:
        return {}
    return {"codes_used": float(len(torch.unique(tokens))), "perplexity": float(code_perplexity(tokens, vocabulary))}


def draw(agent: Agent, observations: torch.Tensor) -> NDArray[np.float32]:
    """Frames (..., H, W), or (..., H, W, C) of colours, on the 0..255 scale, of observations (..., K)."""
    return as_pictures(agent.decode(observations))


def as_pictures(frames: torch.Tensor) -> NDArray[np.float32]:
    """Frames (..., C, H, W) in [0, 1] as (..., H, W), or (..., H, W, C) of colours, on the 0..255 scale."""
    found = frames.float().movedim(-3, -1).cpu().numpy() * 255
    return found[..., 0] if found.shape[-1] == 1 else found


def predict_next(agent: Agent, world: WorldModel, source: Source, pairs: Pairs, device: Device) -> NDArray[np.float32]:
    """The world model's most likely next frames (P, H, W), 0..255, from real context and real actions."""
    count, context = pairs.actions_PC.shape[:2]
    observed_NK, _ = reconstruct(agent, pairs.context_PCHW.reshape(-1, *pairs.context_PCHW.shape[2:]), device)
    observed_PCK = observed_NK.reshape(count, context, -1)
    actions_PC = torch.as_tensor(pairs.actions_PC).to(device.name)
    pictures = []
    with torch.no_grad(), device.autocast():
        for rows in torch.arange(count).split(PAIRS_AT_ONCE):
            games = torch.full((len(rows),), source.game, device=device.name)
            world.reset(Context(observed_PCK[rows], actions_PC[rows, :-1], games))
            pictures.append(draw(agent, world.step(actions_PC[rows, -1]).tokens_NK))
    return np.concatenate(pictures)


def foresight(agent: Agent, source: SegmentSource, held_out: int, device: Device) -> dict[str, float]:
    """How often the world model's most likely reward and end are right, a step behind real context, in the last play.

    Shares of steps: `reward_found` of those with points, whose sign it tells; `reward_invented`
    of those without; `end_found` of those that ended the episode; `end_invented` of the others. A share of nothing is
    left out. At most FORESEEN steps of each kind are looked at.
    """
    data, world = source.trajectories, agent.world()
    context = min(PLAY_CONTEXT, max(agent.limits.steps - 1, 1))
    starts = data.episode_starts[-max(held_out, 1) - 1 :]
    rows = np.concatenate([np.arange(first + context - 1, last) for first, last in itertools.pairwise(starts)])
    signs, ends = np.sign(data.rewards), data.terminals > 0
    rng = np.random.default_rng(0)
    kinds = [rows[signs[rows] != 0], rows[signs[rows] == 0], rows[ends[rows]]]
    chosen = np.unique(np.concatenate([rng.permutation(kind)[:FORESEEN] for kind in kinds]))
    told_rewards, told_ends = [], []
    with torch.no_grad(), device.autocast():
        for block in np.array_split(chosen, -(-len(chosen) // PAIRS_AT_ONCE)) if len(chosen) else []:
            frames = np.stack([data.frames(int(row) - context + 1, int(row) + 1) for row in block])
            observed_NK, _ = reconstruct(agent, frames.reshape(-1, *frames.shape[2:]), device)
            window = block[:, None] + np.arange(1 - context, 1)
            actions = torch.as_tensor(widened(source.actions[window])).to(device.name)
            games = torch.full((len(block),), source.game, device=device.name)
            world.reset(Context(observed_NK.reshape(len(block), context, -1), actions[:, :-1], games))
            found = world.step(actions[:, -1])
            told_rewards.append(found.rewards_N.float().cpu().numpy())
            told_ends.append(found.ends_N.cpu().numpy() > 0)
    told_R, told_E = (np.concatenate(each or [np.zeros(0)]) for each in (told_rewards, told_ends))
    real_R, real_E = signs[chosen], ends[chosen]
    points = np.abs(data.rewards[chosen])
    unit = min(1.0, float(points[points > 0].min(initial=1.0)))  # the smallest points that there are
    right = np.where(np.abs(told_R) > unit / 2, np.sign(told_R), 0) == real_R
    shares = {
        "reward_found": right[real_R != 0],
        "reward_invented": ~right[real_R == 0],
        "end_found": told_E[real_E] > 0,
        "end_invented": told_E[~real_E] > 0,
    }
    return {name: round(float(np.mean(kind)), 4) for name, kind in shares.items() if len(kind)}


def draw_sheet(
    path: Path,
    agent: Agent,
    world: WorldModel,
    source: Source,
    held_out: int,
    steps: int,
    device: Device,
    among: int = 0,
) -> None:
    """Write one PNG for a game: `steps` frames of its last episodes in each of four rows (JOWA, appendix).

    They are the original, the agent's reconstruction, the prediction of one step from real context, and free running
    from the first half of the steps. Where none is held out, they are of one of the last `among` (0: of the last).
    """
    window = last_pairs(source, held_out or among, 1, steps - 1, seed=0)
    frames_THW = np.concatenate([window.context_PCHW[0], window.next_PHW])
    observed_TK, pictures_THW = reconstruct(agent, frames_THW, device)
    if isinstance(agent, TellsChanges):
        _, pictures_THW[1:], _ = told(agent, frames_THW[:-1], window.actions_PC[0], frames_THW[1:], device)
    actions_T = torch.as_tensor(window.actions_PC[0]).to(device.name)
    games_1 = torch.full((1,), source.game, device=device.name)
    given = steps // 2

    def imagined(first: int, until: int) -> list[torch.Tensor]:
        """Observations (1, K) of steps first.. until-1, imagined from the real steps before `first`."""
        world.reset(Context(observed_TK[None, :first], actions_T[None, : first - 1], games_1))
        return [world.step(actions_T[step - 1 : step]).tokens_NK for step in range(first, until)]

    with torch.no_grad(), device.autocast():
        ahead = [imagined(step, step + 1)[0] for step in range(1, steps)]
        free = imagined(given, steps)
        blank = torch.zeros_like(observed_TK[:1])
        ahead_THW = draw(agent, torch.cat([blank, *ahead]))
        free_THW = draw(agent, torch.cat([observed_TK[:given], *free]))
    ahead_THW[0] = 0  # nothing precedes the first frame
    free_THW[:given] = 0
    rows = {
        "original": frames_THW,
        "reconstruction": as_bytes(pictures_THW),
        "one step ahead": as_bytes(ahead_THW),
        f"free running from {given} steps": as_bytes(free_THW),
    }
    kind = "held-out play" if held_out else "play that was learned from"
    pictures.draw_sheet(rows, path, f"{source.name}, {kind}")


def as_bytes(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Frames on the 0..255 scale as bytes."""
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


@contextmanager
def looking(agent: Agent) -> Iterator[None]:
    """The networks in eval mode; afterwards their modes and the random numbers are as they were."""
    modes = [(module, module.training) for module in agent.networks.values()]
    with torch.random.fork_rng():
        for module, _ in modes:
            module.eval()
        yield
    for module, training in modes:
        module.train(training)


def mean_returns(
    agent: Agent,
    games: tuple[str, ...],
    loop: LoopConfig,
    device: Device,
    ranks: Ranks,
    player: PlayerSettings | None = None,
    rules: Rules | None = None,
) -> dict[str, float]:
    """Mean raw return by game with fixed seeds, greedily and under JOWA's rules unless `player` and `rules` are given.

    All episodes of a game are played at once; games are shared out over the ranks. Leaves the networks' modes and the
    random numbers as they were.
    """
    means = torch.zeros(len(games), dtype=torch.float64)
    with looking(agent):
        for index in range(ranks.rank, len(games), ranks.world):
            means[index] = _mean_return(agent, games[index], player or _greedy(loop), rules, device)
    return dict(zip(games, ranks.sum_(means).tolist(), strict=True))


def _greedy(loop: LoopConfig) -> PlayerSettings:
    return PlayerSettings("greedy", loop.evaluate_episodes, loop.evaluate_steps, PLAY_CONTEXT, PLAY_EPSILON)


def _mean_return(agent: Agent, game: str, player: PlayerSettings, rules: Rules | None, device: Device) -> float:
    seeds = {number: PLAY_SEED + number for number in range(player.episodes)}
    episodes: list[Episode] = []
    rules = rules or protocol(PLAY_PROTOCOL)
    table = EpisodeBatch(game, rules, seeds, episodes.append, max_steps=player.max_steps)
    play(table, AgentPlayer(player, [game] * table.rows, agent, partial(device.piece, "play")))
    return float(np.mean([episode.score for episode in episodes]))
