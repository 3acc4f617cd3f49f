"""Stage `collected_replay`: play a game and log the replay in DQN-Replay's own layout, ring buffer and all.

This is the embedded source of data: where the public bucket is out of reach, all later stages read these files instead,
through the same code. Play gets better over the run, as in the real logs: random actions give way to the game's script.
The rings stay in memory until they are logged.
Run: `worldline collect --games Freeway`.
"""

import functools
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from models.limits import Count, Seed, Share, Size, Within
from pipelines.environments.actions import to_own
from pipelines.environments.atari.games import IDS, PROTOCOLS, SCRIPTS, Script, minimal_actions, rom_md5
from pipelines.environments.registry import Environment, Step, emulator_seeds, game_id, make, require_replay
from pipelines.errors import UsageError
from pipelines.progress import Advance, track
from pipelines.sources.dqn_replay.listing import log_folder
from pipelines.sources.dqn_replay.ring_log import RingWriter
from pipelines.store.artefact import Draft, Report
from pipelines.store.stage_config import Beside, StageConfig, Work, filled, option
from pipelines.store.store import Store


@dataclass(frozen=True)
class CollectConfig(StageConfig):
    """Play a game and log the replay as Dopamine would: `agents` independent rings, logged whenever one is full.

    `steps` counts agent steps (4 emulator frames) per agent; `capacity` is the ring's size in rows, so a log is
    written about every `capacity` steps. Exploration falls linearly from `epsilon_start` to `epsilon_end`
    over the first `epsilon_share` of the run and stays there. A random action, one of the game's, is taken with that
    chance, or always where there is no script, and lasts `hold` steps.
    """

    STAGE: ClassVar[str] = "collected_replay"
    VERB: ClassVar[str] = "collect"
    DATA: ClassVar[bool] = True
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("whole_episodes",)

    game: str = filled("game", "")
    agents: Size = 2
    steps: Count = 15_000
    capacity: Annotated[int, Within(least=1, most=2**24)] = 3_000
    policy: Literal["script", "random"] = "script"  # "script" falls back to random actions for games without one
    epsilon_start: Share = 1.0
    epsilon_end: Share = 0.05
    epsilon_share: Annotated[float, Within(above=0, most=1)] = 1.0
    hold: Size = option(1)  # steps that a random action lasts; more show what it does where effects come late
    sticky: Annotated[float, Within(least=0, below=1)] = 0.25
    stack_size: Size = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity <= self.stack_size + 1:
            raise UsageError(
                f"Rings of {self.capacity} rows cannot hold stacks of {self.stack_size} frames: set collect.capacity "
                f"above {self.stack_size + 1}"
            )
        if self.epsilon_end > self.epsilon_start:
            raise UsageError(
                f"Exploration from {self.epsilon_start} to {self.epsilon_end} would rise: lower collect.epsilon_end"
            )

    @property
    def subject(self) -> str:
        return self.game

    def work(self, beside: Beside) -> Work:
        """The frames of all agents."""
        return Work("frames", self.agents * self.steps)

    def fill(self, values: dict[str, Any], beside: Beside) -> Self:
        """The config of one game, which the layout of the logs must be able to hold."""
        require_replay(values["game"])
        return super().fill(values, beside)


FIFTHS = 5

ADVANCE_EVERY = 50  # steps between two updates of the progress bar


@dataclass
class ReturnLog:
    """Raw returns of the episodes that ended in each fifth of the run; an unfinished last episode does not count."""

    agents: int
    ended: list[list[float]] = field(default_factory=lambda: [[] for _ in range(FIFTHS)])

    def __post_init__(self) -> None:
        self._running_N = np.zeros(self.agents)

    def add(self, step: Step, fifth: int) -> None:
        """Count one step of all agents."""
        self._running_N += step.rewards
        self.ended[fifth] += self._running_N[step.ended].tolist()
        self._running_N[step.ended] = 0.0

    def metrics(self) -> dict[str, object]:
        """Means and numbers of episodes; `behaviour_return` (the last fifth) is what an agent has to compare with."""
        everything = [value for part in self.ended for value in part]
        return {
            "mean_return": _mean(everything),
            "behaviour_return": _mean(self.ended[-1]),
            "fifths": [{"mean_return": _mean(part), "episodes": len(part)} for part in self.ended],
        }


def run(config: CollectConfig, store: Store) -> Report:
    """Make the replay of `config.agents` agents, or find it. Raises UsageError for a game without replay.

    Files: `{Game}/{agent}/replay_logs/...`, agents from 1. Observations (rows, 84, 84) uint8, actions int32 in the
    game's minimal ids, rewards float32 clipped to [-1, 1], terminals uint8, also 1 where the time limit cut an episode.
    """
    require_replay(config.game)
    return store.produce(config.spec(), functools.partial(_build, config))


def _build(config: CollectConfig, draft: Draft) -> None:
    seeds = np.random.SeedSequence([config.seed, game_id(config.game)]).generate_state(2).tolist()
    rules = replace(PROTOCOLS["sticky"], sticky=config.sticky)
    game = make(config.game, emulator_seeds(seeds[0], config.agents), rules)
    script = SCRIPTS.get(config.game) if config.policy == "script" else None
    rings = []
    for agent in range(1, config.agents + 1):
        folder = draft.path(f"{log_folder(config.game, agent)}/log").parent
        rings.append(RingWriter(folder, config.capacity, config.stack_size))
    with track(f"Collect {config.game}", config.steps * config.agents, "frames") as advance:
        returns = _play(config, game, script, rings, np.random.default_rng(seeds[1]), advance)
    episodes = sum(len(part) for part in returns.ended)
    draft.roots.append(
        {
            "game": config.game,
            "rom_md5": rom_md5(config.game),
            "ale_py": version("ale-py"),
            "policy": "script" if script else "random",
            "emulator_seeds": list(game.seeds),
            "policy_seed": seeds[1],
            "sticky": config.sticky,
            "hold": config.hold,
            "epsilon": [config.epsilon_start, config.epsilon_end] if script else [1.0, 1.0],
        }
    )
    draft.counts = {
        "frames": config.steps * config.agents,
        "episodes": episodes,
        "logs": sum(ring.logs for ring in rings),
    }
    draft.metrics = returns.metrics()
    draft.check("whole_episodes", episodes > 0, f"{episodes} episodes ended; raise steps if there are too few")


def _play(
    config: CollectConfig,
    game: Environment,
    script: Script | None,
    rings: list[RingWriter],
    rng: np.random.Generator,
    advance: Advance,
) -> ReturnLog:
    legal = np.array(minimal_actions(config.game))
    returns = ReturnLog(config.agents)
    frames_NHW = game.reset()
    last_N = np.full(config.agents, IDS["NOOP"])
    for step in range(config.steps):
        epsilon = _epsilon(config, step)
        if step % config.hold == 0:
            random_N, explore_N = rng.choice(legal, config.agents), rng.random(config.agents) < epsilon
        actions_N = random_N if script is None else np.where(explore_N, random_N, script(frames_NHW, last_N))
        own_N = to_own(config.game, actions_N)
        result = game.step(actions_N)
        clipped_N = np.clip(result.rewards, -1, 1)
        for ring, frame, action, reward, ended in zip(rings, frames_NHW, own_N, clipped_N, result.ended, strict=True):
            ring.add(frame, action, reward, ended)
        returns.add(result, step * FIFTHS // config.steps)
        frames_NHW = result.frames
        last_N = np.where(result.ended, IDS["NOOP"], actions_N)
        if (step + 1) % ADVANCE_EVERY == 0 or step + 1 == config.steps:
            advance((step % ADVANCE_EVERY + 1) * config.agents, note=f"epsilon {epsilon:.2f}")
    for ring in rings:
        ring.close()
    return returns


def _epsilon(config: CollectConfig, step: int) -> float:
    """Falls linearly over the first `epsilon_share` of the steps, then stays."""
    share = min(step / max(config.steps * config.epsilon_share - 1, 1), 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * share


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
