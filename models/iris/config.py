"""IRIS's configuration: sizes of its three networks and what their losses weigh; the defaults are the paper's.

Source: Micheli, Alonso, Fleuret, "Transformers are Sample-Efficient World Models", arXiv 2209.00588, appendix A.
Learning rates, decay, clipping and the order of turns belong to the schedule. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from models.blocks.wiring import layer_sizes
from models.family import manner, option
from models.limits import Dropout, Few, Natural, Size, Within, check, require_unset
from models.practice.config import OUTCOME, ActorCriticConfig, OutcomeConfig, PracticeConfig, require_equal
from models.tokenizers.config import TokenizerConfig

TOKENIZER = TokenizerConfig(
    vocab_size=512,
    embed_dim=512,
    z_channels=512,
    channels=64,
    res_blocks=2,
    norm_groups=32,
    downsample=(2, 2, 2, 2),
    resolution=64,
    frame_channels=3,
    attention_at=(8, 16),
    initial="uniform",
)


@dataclass(frozen=True)
class WorldModelConfig(OutcomeConfig):
    """Sizes of the transformer over blocks of a frame's tokens and an action (section 2.2 and appendix A.2)."""

    vocab_size: Size = 512
    tokens_per_frame: Size = 16
    max_steps: Size = 20  # blocks that have positions: how far it remembers
    layers: Size = 10
    heads: Size = 4  # of a transformer
    width: Size = 256
    dropout: Dropout = 0.1  # embedding, residual and attention
    num_actions: Size = 18
    kind: Literal["transformer", "ncp_tokens", "ncp_frames"] = option("transformer")  # what remembers (`ncp.py`)
    gelu: Literal["none", "tanh"] = option("none")  # exact, or the approximation that GPT-2 was trained with
    project_before: bool = option(False)  # a linear layer and a ReLU before the blocks
    project_behind: bool = option(False)  # and behind the last LayerNorm
    frozen: bool = option(False)  # attention and MLP of blocks keep their weights,
    learning_blocks: Few = option(0)  # but those of this many last ones
    units: Size = option(512)  # of a neural circuit
    layer_norm: bool = option(True)  # before a circuit
    positions: bool = option(True)  # whether a token's place in its step is told to circuits
    pretrained: bool = option(False)  # whether a fresh transformer's blocks are those of `IrisConfig.gpt2_file`
    sparsity: Annotated[float, Within(least=0.1, most=1)] = option(0.5)  # of a circuit's wiring
    wiring_seed: Natural = option(22222)

    def __post_init__(self) -> None:
        check(self, "world_model")
        super().__post_init__()
        if self.ensemble and self.kind == "ncp_frames":
            raise ValueError(
                "world_model.kind ncp_frames says a frame at once, of which an ensemble cannot disagree token by "
                "token: set world_model.ensemble=0"
            )
        if self.learning_blocks > self.layers * self.frozen:
            raise ValueError(
                f"world_model.learning_blocks {self.learning_blocks} are more than the {self.layers * self.frozen} "
                "frozen ones: lower it, or set world_model.frozen"
            )
        if (self.frozen or self.pretrained) and self.kind != "transformer":
            raise ValueError(
                f"world_model.kind {self.kind} has no blocks to freeze or to give GPT-2's weights: set "
                "world_model.frozen and world_model.pretrained to false"
            )
        self._check_unset()
        if self.kind != "transformer":
            layer_sizes(self.units, self.hidden)
        elif self.width % self.heads:
            raise ValueError(f"Width {self.width} does not divide into {self.heads} heads: change width or heads")

    def _check_unset(self) -> None:
        """Nothing is set that the other kinds have."""
        kind, circuits = f"on world_model.kind '{self.kind}'", "units layer_norm sparsity wiring_seed"
        if self.kind == "transformer":
            require_unset(self, "world_model", circuits, f"{kind}: set world_model.kind=ncp_tokens")
        else:
            require_unset(self, "world_model", "gelu project_before project_behind", f"{kind}: set it to transformer")
        if self.kind != "ncp_tokens":
            require_unset(self, "world_model", "positions", f"{kind}: set it to ncp_tokens")

    @property
    def tokens_per_step(self) -> int:
        """The frame's tokens and the action."""
        return self.tokens_per_frame + 1

    @property
    def max_tokens(self) -> int:
        """Longest sequence that has positions."""
        return self.max_steps * self.tokens_per_step

    @property
    def ahead(self) -> int:
        """How many observation tokens lie between one and that which its prediction is about: 1, or a frame's."""
        return self.tokens_per_frame if self.kind == "ncp_frames" else 1

    @property
    def hidden(self) -> int:
        """Numbers that what remembers reads and writes at once: a token's embedding, or a whole step's."""
        return self.width * (self.tokens_per_step if self.kind == "ncp_frames" else 1)


@dataclass(frozen=True)
class IrisConfig(PracticeConfig):
    """All three networks, and the weights of the tokenizer's loss."""

    family: str = "iris"
    tokenizer: TokenizerConfig = field(default_factory=lambda: TOKENIZER)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    meaning: ClassVar = PracticeConfig.meaning | {"world_model": ("heads", "gelu", *OUTCOME)}

    oracle: bool = option(False)  # the actor-critic practises in the game itself (`emulator.py`); resumed, in new games
    gpt2_sha256: str = option("")  # of a GPT-2 in Hugging Face's layout, whose blocks a fresh transformer begins with
    gpt2_file: str = manner("")  # where that file lies

    @property
    def outside(self) -> Mapping[str, tuple[str, str]]:
        """LPIPS weights and GPT-2, where they are wanted."""
        gpt2 = (self.gpt2_file, self.gpt2_sha256)
        return {**super().outside, **({"gpt2": gpt2} if self.world_model.pretrained else {})}

    def require_fit(self, length: int) -> None:
        """See `PracticeConfig`."""
        tokenizer, world = self.tokenizer, self.world_model
        require_equal(
            ("tokenizer.vocab_size", tokenizer.vocab_size, "world_model.vocab_size", world.vocab_size),
            ("tokenizer's tokens", tokenizer.tokens_per_frame, "world_model.tokens_per_frame", world.tokens_per_frame),
        )
        super().require_fit(length)
        if any((self.gpt2_file, self.gpt2_sha256)) and not world.pretrained:
            raise ValueError("gpt2_file is named and not read: set world_model.pretrained=true, or leave it out")
        if self.oracle and (world.ensemble or world.reward_bins):
            raise ValueError(
                "oracle practises in the game, where world_model.ensemble and reward_bins have no effect: set them to 0"
            )
