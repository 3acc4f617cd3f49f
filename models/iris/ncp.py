"""World models whose memory is a neural circuit (CfC) in place of a transformer; of the IRIS thesis variants.

`NcpTokens` reads one token a recurrent step, as the transformer does, and says the next one. `NcpFrames` reads a whole
frame and its action in one, and says all K tokens of the next frame at once: they are drawn independently. Neither has
a window, so that nothing is ever forgotten by force.

Each layer is LayerNorm -> CfC over time -> dropout, without a residual connection. Parameters have the names of the
original's checkpoints. Its first weights are not known; here they are as IRIS's, normal(0, 0.02) with biases 0, and
Xavier-uniform inside circuits.

Shapes: B or N rows, T steps, K observation tokens a frame, L tokens or recurrent steps, E width of a token's embedding,
D of what circuits read and write, U units of a circuit, V codes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks.cfc import Composed, WiredCfc
from models.blocks.layers import Tables, head, initialise_normal
from models.blocks.wiring import auto_ncp
from models.cpu.shortcuts import Dropout
from models.iris.config import WorldModelConfig
from models.iris.world_model import TokenWorldModel
from models.practice.curiosity import Ensemble
from models.practice.outcome import begin, bins_of, outputs_of
from models.practice.world import Outputs


@dataclass
class CircuitMemory:
    """What circuits carry from step to step: a state (N, U) a layer, and how many tokens or frames were read.

    weights: those of every layer's circuit, put together once, as they were when the memory was made.
    """

    states: list[Tensor]
    weights: list[Composed]
    length: int = 0
    capacity: float = math.inf  # as a transformer's cache has one


class CircuitLayer(nn.Module):
    """LayerNorm -> CfC -> dropout, over time."""

    def __init__(self, config: WorldModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        width = config.hidden
        wiring = auto_ncp(width, config.units, width, config.sparsity, config.wiring_seed)
        self.norm = nn.LayerNorm(width) if config.layer_norm else nn.Identity()
        self.ncp = nn.ModuleDict({"rnn_cell": WiredCfc(wiring, generator)})
        self.drop = Dropout(config.dropout)

    @property
    def circuit(self) -> WiredCfc:
        found = self.ncp["rnn_cell"]
        assert isinstance(found, WiredCfc)
        return found

    def forward(self, x_NLD: Tensor, state_NU: Tensor, weights: Composed) -> tuple[Tensor, Tensor]:
        y_NLD, state_NU = self.circuit(self.norm(x_NLD), state_NU, weights)
        return self.drop(y_NLD), state_NU


class CircuitLayers(nn.ModuleList):
    """The layers in series."""

    def __init__(self, config: WorldModelConfig, generator: torch.Generator) -> None:
        super().__init__(CircuitLayer(config, generator) for _ in range(config.layers))

    def empty_memory(self, rows: int) -> CircuitMemory:
        """Nothing read yet: zeros."""
        circuits = [layer.circuit for layer in self._layers]
        return CircuitMemory([one.empty_state(rows) for one in circuits], [one.composed() for one in circuits])

    def forward(self, x_NLD: Tensor, memory: CircuitMemory) -> Tensor:
        """(N, L, D) -> (N, L, D): x continues what `memory` holds, and is added to it."""
        for number, layer in enumerate(self._layers):
            x_NLD, memory.states[number] = layer(x_NLD, memory.states[number], memory.weights[number])
        memory.length += x_NLD.shape[1]
        return x_NLD

    @property
    def _layers(self) -> Sequence[CircuitLayer]:
        return [layer for layer in self if isinstance(layer, CircuitLayer)]


class NcpTokens(TokenWorldModel[CircuitMemory]):
    """One recurrent step a token, with a learned embedding of a token's place in its step."""

    def __init__(self, config: WorldModelConfig, seed: int = 0) -> None:
        super().__init__(config)
        generator = torch.Generator().manual_seed(seed)
        # The original's table is as long as IRIS's, of which only the first step's rows are read.
        self.pos_emb = nn.Embedding(config.max_tokens, config.width) if config.positions else None
        initialise_normal(self, generator)
        begin(self.bins, self.head_rewards)
        self.drop = Dropout(config.dropout)
        self.ncp_layers = CircuitLayers(config, generator)

    def empty_memory(self, rows: int, old: CircuitMemory | None = None) -> CircuitMemory:
        """Nothing read yet, by the weights of now."""
        return self.ncp_layers.empty_memory(rows)

    def hidden(self, x_NLE: Tensor, memory: CircuitMemory | None = None) -> Tensor:
        """See `TokenWorldModel`. Any number of tokens can be read."""
        memory = memory or self.empty_memory(len(x_NLE))
        if self.pos_emb is not None:
            places_L = torch.arange(memory.length, memory.length + x_NLE.shape[1], device=x_NLE.device)
            x_NLE = x_NLE + self.pos_emb(places_L % self.config.tokens_per_step)
        return self.ncp_layers(self.drop(x_NLE), memory)


class NcpFrames(nn.Module):
    """One recurrent step a frame; D is the width of a frame's tokens and its action, one after the other."""

    def __init__(self, config: WorldModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        generator, width = torch.Generator().manual_seed(seed), config.hidden
        self.embedder = Tables((config.num_actions, config.vocab_size), config.width)
        self.head_observations = head(width, config.vocab_size * config.tokens_per_frame)
        self.head_rewards = head(width, outputs_of(config), config.width)
        self.head_ends = head(width, 2, config.width)
        self.bins, self.ensemble = bins_of(config), Ensemble(())
        initialise_normal(self, generator)
        begin(self.bins, self.head_rewards)
        self.drop = Dropout(config.dropout)
        self.ncp_layers = CircuitLayers(config, generator)

    def forward(self, tokens_BTK: Tensor, actions_BT: Tensor) -> Outputs:
        """Read whole segments. Raises ValueError for frames of other tokens."""
        hidden_BTD = self.read(tokens_BTK, actions_BT, self.ncp_layers.empty_memory(len(tokens_BTK)))
        next_BTKV = self.next_tokens(hidden_BTD)
        return Outputs(
            hidden_BTD,
            next_BTKV.flatten(1, 2),
            self.head_rewards(hidden_BTD),
            self.head_ends(hidden_BTD),
            ahead=self.config.ahead,
        )

    def read(self, tokens_NTK: Tensor, actions_NT: Tensor, memory: CircuitMemory) -> Tensor:
        """Hidden states (N, T, D) of frames and the actions played in them, which are added to the memory."""
        if tokens_NTK.shape != (*actions_NT.shape, self.config.tokens_per_frame):
            raise ValueError(
                f"Tokens {tuple(tokens_NTK.shape)} do not fit actions {tuple(actions_NT.shape)}: the frames' must be "
                f"{(*actions_NT.shape, self.config.tokens_per_frame)}"
            )
        actions, observations = self.embedder.embedding_tables
        x_NTD = torch.cat([observations(tokens_NTK), actions(actions_NT)[:, :, None]], dim=2).flatten(2)
        return self.ncp_layers(self.drop(x_NTD), memory)

    def next_tokens(self, hidden: Tensor) -> Tensor:
        """Logits (..., K, V) of the next frame's tokens, of hidden states (..., D)."""
        sizes = (self.config.tokens_per_frame, self.config.vocab_size)
        return self.head_observations(hidden).unflatten(-1, sizes)
