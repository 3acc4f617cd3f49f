"""Configs of the data stages, in the order of the chain: collect, fetch, downsample, segment."""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.configs.base import StageConfig, manner, option
from pipelines.errors import UsageError
from pipelines.store.ref import Ref


@dataclass(frozen=True)
class CollectConfig(StageConfig):
    """Play a game and log the replay as Dopamine would: `agents` independent rings, logged whenever one is full.

    `steps` counts agent steps (4 emulator frames) per agent; `capacity` is the ring's size in rows, so a log is
    written about every `capacity` steps. Exploration falls linearly from `epsilon_start` to `epsilon_end`
    over the first `epsilon_share` of the run and stays there.
    """

    STAGE: ClassVar[str] = "collected_replay"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("whole_episodes",)

    game: str
    agents: int = 2
    steps: int = 15_000
    capacity: int = 3_000
    policy: str = "script"  # "script" falls back to random actions for games without one
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_share: float = 1.0
    sticky: float = 0.25
    stack_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in ("script", "random"):
            raise UsageError(f"Collection policy '{self.policy}' is unknown: choose script or random")
        if self.capacity <= self.stack_size + 1 or self.steps < 1 or self.agents < 1:
            raise UsageError(
                f"Collecting {self.steps} steps by {self.agents} agents into rings of {self.capacity} rows is "
                f"impossible: steps and agents must be positive, capacity above {self.stack_size + 1}"
            )
        if not 0.0 < self.epsilon_share <= 1.0:
            raise UsageError(f"epsilon_share {self.epsilon_share} is no share of the run: give more than 0, at most 1")
        if not (0.0 <= self.epsilon_end <= self.epsilon_start <= 1.0 and 0.0 <= self.sticky < 1.0):
            raise UsageError(
                f"epsilon {self.epsilon_start} -> {self.epsilon_end} and sticky {self.sticky} must fall within 0 and 1"
            )

    @property
    def subject(self) -> str:
        return self.game


@dataclass(frozen=True)
class FetchConfig(StageConfig):
    """Read one agent's logs from a bucket: `collected` (our own) or `url` with the digest of its object listing.

    `keep_padding` keeps the blank rows as the head of each episode. `compat="jowa"` reads each file alone, as the
    original's scripts do, with their duplicates and wrong joins. `mirror` says which objects of a remote bucket are
    copied to this machine: "small" (all but the frames), "all" or "none". A recipe's template has no game yet.
    """

    STAGE: ClassVar[str] = "replay"
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = (
        "lengths_agree",
        "rewards_clipped",
        "actions_minimal",
        "terminals_binary",
        "add_count",
        "blank_rows",
        "episode_length",
        "no_gap",
        "invalid_range",
        "any_complete_episode",
    )

    game: str
    agent: int
    collected: Ref | None = None
    url: str = ""
    listing: str = ""
    keep_padding: bool = option(False)
    compat: str = option("")
    mirror: str = manner("small")

    def __post_init__(self) -> None:
        if self.game and (self.collected is None) == (not self.url):
            raise UsageError(f"Replay of {self.game} needs one source: a collected artefact or a bucket URL, not both")
        if self.compat not in ("", "jowa"):
            raise UsageError(f"Replay cannot be read as '{self.compat}' does: leave compat empty, or choose jowa")
        if self.compat and self.keep_padding:
            raise UsageError(f"compat={self.compat} keeps the padding anyway: leave keep_padding out")
        if self.mirror not in ("all", "small", "none"):
            raise UsageError(f"Mirror '{self.mirror}' is unknown: choose all, small (all but the frames) or none")

    @property
    def subject(self) -> str:
        return f"{self.game}/{self.agent}"


@dataclass(frozen=True)
class DownsampleConfig(StageConfig):
    """Draw whole episodes from the replay of all chosen agents, until `transitions` steps are reached.

    `fraction` above 0 takes that share of what passes the filters instead. An episode passes when it ends in the
    checkpoints `first_checkpoint` to `last_checkpoint` (-1: no limit) and its clipped return lies between the
    quantiles `min_return` and `max_return` of those: 0.9 to 1 keeps the best tenth, whatever the game's scores.
    `replacement` draws as JOWA's own script does. `workers` files are read at a time (0: one per core, at most 8).
    """

    STAGE: ClassVar[str] = "trajectories"
    CODE: ClassVar[str] = "2"
    CHECKS: ClassVar[tuple[str, ...]] = ("enough_transitions", "reads_back")

    game: str
    replays: tuple[Ref, ...] = ()
    transitions: int = 10_000_000
    seed: int = 0
    fraction: float = option(0.0)
    replacement: bool = option(False)
    first_checkpoint: int = option(0)
    last_checkpoint: int = option(-1)
    min_return: float = option(0.0)
    max_return: float = option(1.0)
    workers: int = manner(0)

    def __post_init__(self) -> None:
        if self.transitions < 1:
            raise UsageError(f"Drawing {self.transitions} transitions is impossible: it must be at least 1")
        if not 0.0 <= self.fraction <= 1.0:
            raise UsageError(f"Drawing a fraction of {self.fraction} is impossible: give 0 (off) to 1 (all)")
        if not 0.0 <= self.min_return <= self.max_return <= 1.0:
            raise UsageError(
                f"Returns from quantile {self.min_return} to {self.max_return} are no range: both lie between 0 and 1, "
                "the smaller first (0.9 to 1 keeps the best tenth)"
            )
        if self.first_checkpoint < 0 or -1 < self.last_checkpoint < self.first_checkpoint or self.last_checkpoint < -1:
            raise UsageError(
                f"Checkpoints {self.first_checkpoint} to {self.last_checkpoint} are no range: give the smaller first, "
                "and -1 as the last for no limit"
            )
        if self.workers < 0:
            raise UsageError(f"{self.workers} workers cannot read: give 1 or more, or 0 for one per core")

    @property
    def subject(self) -> str:
        return self.game


@dataclass(frozen=True)
class SegmentConfig(StageConfig):
    """Cut episodes into windows of `length` steps every `stride` steps; `padding` names the side that is padded."""

    STAGE: ClassVar[str] = "segments"
    CODE: ClassVar[str] = "1"
    CHECKS: ClassVar[tuple[str, ...]] = ("terminals_covered",)

    game: str
    trajectories: Ref | None = None
    length: int = 8
    stride: int = 4
    padding: str = "right"

    def __post_init__(self) -> None:
        if self.padding not in ("right", "left"):
            raise UsageError(f"Segment padding '{self.padding}' is unknown: choose right or left")
        if self.length < 1 or self.stride < 1:
            raise UsageError(f"Segments of length {self.length}, stride {self.stride}: both must be at least 1")

    @property
    def subject(self) -> str:
        return self.game
