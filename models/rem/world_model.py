"""REM's world model: a RetNet, or attention, over frames and actions, with heads for tokens, rewards and ends.

A block is a frame's K observation tokens, then one action; C = K + 1. Observation tokens are embedded as the
tokenizer's codes, which get no gradient, or have rows of their own. The action's output predicts the reward's sign and
the end. The next frame's tokens are predicted all at once (POP): K prediction tokens are run from the state behind the
block before, at the positions of the tokens that they predict, and nothing else sees them. Without POP the output of
each token predicts the next one, as in IRIS. Parameters have the released checkpoints' names.
Source: arXiv 2402.05643, section 2.

Shapes: B segments or N rows, T blocks, K tokens a frame, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn

from models.blocks.layers import head, initialise_uniform
from models.blocks.pop_attention import PopTransformer, Read
from models.blocks.retnet import Reading, RetNet
from models.blocks.transformer import KVCache
from models.practice.blocks import BlockModel
from models.practice.curiosity import Ensemble
from models.practice.outcome import begin, bins_of, outputs_of
from models.practice.world import Outputs
from models.rem.config import WorldModelConfig
from models.tokenizers.config import TokenizerConfig

States = KVCache | tuple[Tensor, ...]
"""What was read: of attention a cache, of a RetNet a state a layer (N, H, E, E)"""


class WorldModel(BlockModel):
    """`seed` fixes the first weights: embeddings normal(0, 1), heads PyTorch's default, of the RetNet see there."""

    config: WorldModelConfig

    def __init__(self, config: WorldModelConfig, tokenizer: TokenizerConfig, seed: int = 0) -> None:
        super().__init__(config, tokenizer)
        generator, width = torch.Generator().manual_seed(seed), config.width
        self.head_observations = head(width, self.vocabulary)
        self.head_rewards = head(width, outputs_of(config))
        self.head_ends = head(width, 2)
        self.bins = bins_of(config)
        self.ensemble = Ensemble(head(width, self.vocabulary) for _ in range(config.ensemble))
        initialise_uniform(self, generator)
        begin(self.bins, self.head_rewards)
        # Rows of observations are unused where codes are shared, and so is the last one, as in the original.
        self.embedding = nn.Embedding(self.vocabulary + config.num_actions + 1, width)
        self._model: RetNet | PopTransformer
        if config.attention:
            self._model = PopTransformer(config.layers, config.heads, width, config.dropout)
            initialise_uniform(self._model, generator)
        else:
            self._model = RetNet(config.layers, config.heads, width, config.dropout, generator)
        self.placeholder_embeddings = nn.Embedding(self.tokens_per_frame + 1, width)
        for table in (self.embedding, self.placeholder_embeddings):
            nn.init.normal_(table.weight, generator=generator)

    @property
    def retnet(self) -> RetNet:
        """What reads and predicts, where it is no attention; parameters keep the original's name for it."""
        assert isinstance(self._model, RetNet), "this world model has attention"
        return self._model

    def forward(self, tokens_BTK: Tensor, actions_BT: Tensor, codes_VD: Tensor) -> Outputs:
        """Read whole segments. `codes` are the tokenizer's. Raises ValueError for more blocks or other tokens."""
        self.require_fit(tokens_BTK)
        steps, per_frame = tokens_BTK.shape[1:]
        x_BLD = self.embed(tokens_BTK, actions_BT, codes_VD)
        reading = self._read(x_BLD, steps)
        read_BTCD = reading.outputs_NLD.unflatten(1, (steps, -1))  # with POP of each block its action alone
        action_BTD = read_BTCD[:, :, -1]
        if self.config.pop:
            seen_BTKD = reading.predicted_NMPD
        else:  # a token is predicted by the one before it, the first of all by nothing: contexts are not learned from
            before_BTD = torch.cat([torch.zeros_like(action_BTD[:, :1]), action_BTD[:, :-1]], dim=1)
            seen_BTKD = torch.cat([before_BTD[:, :, None], read_BTCD[:, :, : per_frame - 1]], dim=2)
        return Outputs(
            torch.cat([seen_BTKD, action_BTD[:, :, None]], dim=2).flatten(1, 2),
            self.head_observations(seen_BTKD.flatten(1, 2)),
            self.head_rewards(action_BTD),
            self.head_ends(action_BTD),
            ahead=0,
            latents_BSD=seen_BTKD.flatten(1, 2),
        )

    def _read(self, x_BLD: Tensor, steps: int) -> Read | Reading:
        predict = self.prediction_tokens(len(x_BLD), steps) if self.config.pop else None
        if isinstance(self._model, PopTransformer):
            return self._model.read(x_BLD, None, self.tokens_per_block, predict, slice(0, steps), ends_only=True)
        return self.retnet.read(
            x_BLD,
            block=self.tokens_per_block,
            per_chunk=self.config.blocks_per_chunk,
            predict=predict,
            behind=slice(0, steps),
            ends_only=self.config.pop,
        )

    def nothing_read(self, rows: int, old: States = ()) -> States:
        """What `advance` begins with; `old` is what nobody needs any more."""
        if isinstance(self._model, PopTransformer):
            return self._model.fresh_cache(rows, (self.config.max_steps + 1) * self.tokens_per_block, old)
        return ()

    def advance(
        self, x_NLD: Tensor, states: States, first: int, predict: bool, ends_only: bool = True
    ) -> tuple[Read | Reading, States]:
        """Read on, and predict the next frame in the same pass if wanted: what is said, and what was read now.

        first: position of the first token that is read. A cache is changed in place.
        """
        tokens, behind = self.prediction_tokens(len(x_NLD), 1) if predict else None, slice(1, 2)
        if isinstance(self._model, PopTransformer):
            assert isinstance(states, KVCache)
            read = self._model.read(x_NLD, states, predict=tokens, behind=behind, ends_only=ends_only)
            return read, states
        assert not isinstance(states, KVCache)
        reading = self.retnet.read(x_NLD, states, first, predict=tokens, behind=behind, ends_only=ends_only)
        return reading, reading.last

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Embedded actions (..., D)."""
        return self.embedding(actions + self.vocabulary)

    def embed_frames(self, tokens: Tensor, codes_VE: Tensor) -> Tensor:
        """Embedded tokens (..., D)."""
        if self.config.shared_embeddings:
            return nn.functional.embedding(tokens, codes_VE.detach())
        return self.embedding(tokens)

    def prediction_tokens(self, rows: int, blocks: int) -> Tensor:
        """Embedded prediction tokens (N, T, K, D)."""
        table_CD, places = self.placeholder_embeddings.weight, self.tokens_per_frame
        table_KD = table_CD[:1].expand(places, -1) if self.config.shared_prediction_token else table_CD[:places]
        return table_KD.expand(rows, blocks, -1, -1)
