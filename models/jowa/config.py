"""JOWA's configuration: sizes, heads and loss weights; the defaults are JOWA-40M's. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from models.family import AgentConfig, Takes, manner, option
from models.limits import Dropout, Few, Natural, Share, Size, Weight, Within, check
from models.tokenizers.config import MEANING, TokenizerConfig


@dataclass(frozen=True)
class JowaConfig:
    """Sizes of the transformer and its heads, and what its objective weighs (arXiv 2410.00564, appendix).

    A step is `tokens_per_frame` observation tokens and one action token. Raises ValueError where sizes do not fit.
    """

    vocab_size: Size = 2048
    tokens_per_frame: Size = 36
    max_steps: Size = 8
    layers: Size = 4
    heads: Size = 8
    width: Size = 512
    dropout: Dropout = 0.1  # embedding, residual and attention
    num_q: Size = 1  # Q heads in the ensemble
    q_hidden: Size = 768
    q_dropout: Dropout = 0.01
    q_trains_trunk: bool = True  # whether the Q head's gradient reaches the transformer
    num_actions: Size = 18
    num_games: Size = 60
    task_embedding: bool = True
    embedding_std: Weight = 0.02  # of the first token and position embeddings
    factored_positions: bool = (
        False  # start position (step, place in the step) as the sum of a step's and a place's part
    )
    atoms: Annotated[int, Within(least=2, most=2**16)] = 51
    value_min: float = -10.0
    value_max: float = 30.0
    gamma: Share = 0.99
    cql_weight: Weight = 0.1
    world_weight: Weight = 0.1  # of the world model's three terms once the Q head is trained with them
    critic: Literal["c51", "mse"] = option("c51")  # a distribution on atoms, or a scalar with the squared error
    penalty: Literal["cql", "combo", "none"] = option("cql")  # combo: only real steps count as data, not imagined ones
    random_mixture: bool = option(False)  # REM: every step trains another random mixture of the Q heads
    task_ids: tuple[tuple[int, int], ...] = option(())  # (game, the game whose task embedding it borrows)
    state_value: Weight = option(
        0.0
    )  # of a value of states, learned beside Q and free of its penalty; 0: there is none
    expectile: Annotated[float, Within(above=0, below=1)] = option(0.5)  # of its returns: 0.5 is the behaviour's mean
    trace: Share = option(0.95)  # lambda of its returns within a segment
    pessimism: Weight = option(0.0)  # standard deviations over the Q heads by which play and search value actions lower
    cql_steps: Natural = option(
        0
    )  # of training, over which the penalty's weight goes in a line to cql_last; 0: it stays
    cql_last: Weight = option(0.0)
    n_step: Size = option(1)  # rewards in a target of Q before it goes on by the target head; at most a segment's

    def __post_init__(self) -> None:
        check(self, "model")
        if self.width % self.heads:
            raise ValueError(f"Width {self.width} does not divide into {self.heads} heads: change width or heads")
        if self.value_min >= self.value_max:
            raise ValueError(f"Atoms on [{self.value_min}, {self.value_max}] are no support: raise value_max")
        if self.pessimism and self.num_q < 2:
            raise ValueError(
                f"pessimism {self.pessimism} goes by how far Q heads are apart, and num_q is {self.num_q}: raise it"
            )
        borrowers = [game for game, _ in self.task_ids]
        if len(set(borrowers)) < len(borrowers) or any(
            not 0 <= game < self.num_games for pair in self.task_ids for game in pair
        ):
            raise ValueError(
                f"task_ids {self.task_ids} must name pairs of games in 0..{self.num_games - 1}, each borrower once"
            )

    @property
    def tokens_per_step(self) -> int:
        """Observation tokens and the action token."""
        return self.tokens_per_frame + 1

    @property
    def outputs_per_action(self) -> int:
        """Outputs Z of a Q head for each action: atoms of a distribution, or one value."""
        return self.atoms if self.critic == "c51" else 1

    @property
    def max_tokens(self) -> int:
        """Longest sequence that has positions."""
        return self.max_steps * self.tokens_per_step


@dataclass(frozen=True)
class JowaAgentConfig(AgentConfig):
    """Both networks, and what the tokenizer's loss weighs; the defaults are those of arXiv 2410.00564, appendix."""

    family: str = "jowa"

    meaning: ClassVar = {"tokenizer": MEANING, "model": ("heads", "value_min", "value_max")}

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: JowaConfig = field(default_factory=JowaConfig)
    commitment: Weight = 1.0
    motion_gain: Weight = 0.0  # extra weight of pixels off the game's background; 0 is the original's objective
    random_shift: Few = 0  # pixels of augmentation for the tokenizer's frames
    lpips_sha256: str = option("")  # of a file with LPIPS weights; none leaves the perceptual term out
    lpips_file: str = manner("")  # where that file lies
    lpips_weight: Weight = option(1.0)

    def __post_init__(self) -> None:
        check(self, "networks")
        if self.random_shift >= self.tokenizer.resolution:
            raise ValueError(
                f"random_shift {self.random_shift} moves all of a frame of {self.tokenizer.resolution} pixels out of "
                "sight: lower it"
            )

    @property
    def outside(self) -> Mapping[str, tuple[str, str]]:
        """LPIPS weights, where they are wanted."""
        return {"lpips": (self.lpips_file, self.lpips_sha256)} if self.lpips_file or self.lpips_sha256 else {}

    @property
    def takes(self) -> Takes:
        """The tokenizer's frames, and the transformer's positions, task embeddings and Q outputs."""
        side, model = self.tokenizer.resolution, self.model
        frame = (side, side, self.tokenizer.frame_channels)
        return Takes(frame, model.max_steps, model.num_games, model.num_actions)

    @property
    def values_states(self) -> bool:
        """Where it learns a value of states."""
        return self.model.state_value > 0

    def whole_batches(self, objective: str) -> str:
        """Where its codebook asks for them."""
        return self.tokenizer.whole_batches if objective == "tokenizer" else ""

    def require_fit(self, length: int) -> None:
        """Raises ValueError where tokenizer, transformer and segments of `length` steps do not fit each other."""
        ours, theirs = self.tokenizer, self.model
        sizes = (
            ("tokenizer.vocab_size", ours.vocab_size, "model.vocab_size", theirs.vocab_size),
            ("tokenizer's frames of tokens", ours.tokens_per_frame, "model.tokens_per_frame", theirs.tokens_per_frame),
            ("segment.length", length, "model.max_steps", theirs.max_steps),
        )
        if length < 2:
            raise ValueError(f"segment.length is {length}: a world is learned from one step to the next, set 2 or more")
        for name, value, other, found in sizes:
            if value != found:
                raise ValueError(f"{name} is {value} but {other} is {found}: they must be equal, set both")
