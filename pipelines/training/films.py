"""Films of what an agent imagines: an episode beside what the world model makes of its actions, and a dream of its own.

Both begin with the same few real steps, of the play that sheets show. What is behind them is imagined from what was
imagined before, the likeliest in a film, and in a dream as the agent practises (`models.api.Agent.dream`). A film has
`STEPS` steps, fewer where the episodes are shorter or a frame has many tokens: of IRIS's 16 it takes 700 passes of one
token at most, and a dream as many (BENCHMARKS.md says how long). They are written as GIFs, which browsers, TensorBoard
and Dagster play. Nothing here draws from torch's global numbers; networks are left in eval mode.

Letters: T steps, C of them given, K tokens a frame, H and W pixels; a frame of colours has a last axis of 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Acting, Agent, Context, Dream
from models.registry import family_of
from pipelines.batches.loader import Source
from pipelines.environments.actions import legal_mask
from pipelines.evaluation.film import STEPS_PER_SECOND, write_animation
from pipelines.plots.training import captioned
from pipelines.training.device import Device
from pipelines.training.diagnostics import as_bytes, draw, reconstruct
from pipelines.training.inputs import channels_first

STEPS = 40  # of a film: under three seconds
PASSES = 700  # of one token, that the imagined steps of a film may take
GIVEN = 4  # real steps that it begins with
FEWEST = 4  # imagined steps without which there is no film
TEMPERATURE = 0.5  # of the actions in a dream, as IRIS plays
SEED = 0


@dataclass(frozen=True)
class Scene:
    """The real steps that a film is of, on the device: frames (T, H, W) uint8, actions (T,), and the game.

    given: how many of them it begins with.
    """

    frames_THW: NDArray[np.uint8]
    actions_T: Tensor
    game: int
    name: str
    given: int


def scene(agent: Agent, source: Source, episodes: int, device: Device) -> Scene | None:
    """Steps within one of the last `episodes`; None where all are too short, or the agent has no room to imagine."""
    given = min(GIVEN, agent.limits.steps - 1)
    longest = min(STEPS, given + PASSES // (agent.tokens_per_frame + 1)) if agent.vocabulary else STEPS
    steps = min(longest, source.longest(episodes))
    if not given or steps < given + FEWEST:
        return None
    frames, actions = source.windows(episodes, steps, 1, SEED)
    return Scene(frames[0], torch.as_tensor(actions[0]).to(device.name), source.game, source.name, given)


def begun(world: Dream, of: Scene, seen_CK: Tensor) -> Dream:
    """The world at the newest of the given steps."""
    actions_1C = of.actions_T[None, : of.given - 1]
    world.reset(Context(seen_CK[None], actions_1C, torch.full((1,), of.game, device=seen_CK.device)))
    return world


@torch.no_grad()
def imagine_along(agent: Agent, of: Scene, device: Device) -> NDArray[np.uint8]:
    """Frames like the scene's: the given ones as the agent sees them, then what it imagines of the same actions."""
    with device.autocast():
        seen_CK, _ = reconstruct(agent, of.frames_THW[: of.given], device)
        world = begun(agent.dream(sample=False), of, seen_CK)
        following = [world.step(action_1).tokens_NK for action_1 in of.actions_T[of.given - 1 : -1].split(1)]
        return as_bytes(draw(agent, torch.cat([seen_CK, *following])))


@dataclass(frozen=True)
class Dreamt:
    """An episode that an agent dreamt: frames (T, H, W) uint8, the given ones first; for each dreamt one the reward
    that led to it, in {-1, 0, 1}; and whether it ended there."""

    frames_THW: NDArray[np.uint8]
    rewards: Sequence[float]
    ended: bool


@torch.no_grad()
def dream(agent: Agent, of: Scene, device: Device) -> Dreamt:
    """The agent plays on from the given steps, in its world model alone, until that ends or the scene's length."""
    acting = Acting(
        games_N=torch.full((1,), of.game, device=device.name),
        legal_NA=torch.as_tensor(legal_mask(of.name))[None].to(device.name),
        temperature=TEMPERATURE,
    )
    before = of.given - 1
    with device.autocast():
        policy = agent.policy(acting)
        policy.begin([0], [SEED])
        real_TCHW = channels_first(torch.as_tensor(of.frames_THW[: of.given]), 3).to(device.name)
        policy.recall(0, real_TCHW[:before], of.actions_T[:before])
        seen_CK, _ = reconstruct(agent, of.frames_THW[: of.given], device)
        world, shown = begun(agent.dream(SEED), of, seen_CK), [seen_CK]
        rewards: list[float] = []
        ended = False
        while not ended and len(rewards) < len(of.frames_THW) - of.given:
            found = world.step(policy.act_on_tokens(shown[-1][-1:], [0]))
            shown.append(found.tokens_NK)
            rewards.append(float(found.rewards_N))
            ended = bool(found.ends_N)
        return Dreamt(as_bytes(draw(agent, torch.cat(shown))), rewards, ended)


def draw_films(folder: Path, agent: Agent, source: Source, episodes: int, device: Device) -> list[Path]:
    """Write film_GAME.gif of one of the last `episodes`, and dream_GAME.gif of an agent with an actor.

    Returns what was written: nothing where all episodes are too short, or nothing can be imagined.
    """
    if (of := scene(agent, source, episodes, device)) is None:
        return []
    real, imagined = of.frames_THW, imagine_along(agent, of, device)
    pairs = zip(real, imagined, strict=True)
    pages = [
        captioned([left, right], ["played", "given" if step < of.given else f"imagined {step}"])
        for step, (left, right) in enumerate(pairs)
    ]
    films = [write_animation(iter(pages), folder / f"film_{of.name}.gif", STEPS_PER_SECOND, 1)]
    if "actor" in family_of(agent.config).planners:
        dreamt = dream(agent, of, device)
        points = np.cumsum([0.0] * of.given + list(dreamt.rewards))
        last = len(dreamt.frames_THW) - 1
        pages = [
            captioned([frame], [_told(step, of.given, float(points[step]), dreamt.ended and step == last)])
            for step, frame in enumerate(dreamt.frames_THW)
        ]
        films.append(write_animation(iter(pages), folder / f"dream_{of.name}.gif", STEPS_PER_SECOND, 1))
    return films


def _told(step: int, given: int, points: float, ended: bool) -> str:
    """What stands above a dreamt frame."""
    return "given" if step < given else f"dreamt {step}: {points:+.0f}{', over' if ended else ''}"
