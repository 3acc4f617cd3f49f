"""A world of the Dreamer family: frames and actions to states, and states to frames, rewards and ends.

One state-space model, or two, where the lower one reads frames alone and the upper one reads its features and actions
(APV). Frames are embedded by plain convolutions, residual ones, or in the context of one of them (ContextWM); actions
are the environment's, told by the video, or encoded (PreLAR). Sources: arXiv 2010.02193, 2203.13880, 2305.18499.

Shapes: B sequences, T steps, C channels of R x R pixels, E numbers of an embedded frame, A of an action, Z of a
feature; N rows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.weights import misfit
from models.dreamer.config import DreamerConfig
from models.rssm.bonus import Bonus
from models.rssm.chance import Draws, Numbers
from models.rssm.context import ContextDecoder, ContextEncoder
from models.rssm.convolutions import PlainDecoder, PlainEncoder, ResnetDecoder, Trunk
from models.rssm.heads import Number
from models.rssm.latent_action import ActionEncoder, LatentAction
from models.rssm.model import Layers, Rssm, State

ENCODERS = {"plain": PlainEncoder, "resnet": Trunk, "context": ContextEncoder}
DECODERS = {"plain": PlainDecoder, "resnet": ResnetDecoder, "context": ContextDecoder}
POSTERIOR, PRIOR, FIRST_POSTERIOR, FIRST_PRIOR = "posterior", "prior", "first_posterior", "first_prior"


@dataclass(frozen=True)
class Segments:
    """Steps of episodes; action[t] and reward[t] led to frame t. The last three are none of a video."""

    frames_BTCRR: Tensor  # uint8
    first_BT: Tensor  # bool: nothing before it belongs to the same episode
    actions_BTA: Tensor | None = None  # float
    rewards_BT: Tensor | None = None  # float
    ends_BT: Tensor | None = None  # bool: a true end, not a truncation


class Observed(NamedTuple):
    """What a world makes of segments."""

    embedded_BTE: Tensor
    context: dict[int, Tensor]  # by side of its places; empty without
    actions_BTA: Tensor | None  # as the state-space model was given them
    latent_stats: Tensor | None  # (B, T - 1, ...) of latent actions
    posterior: State
    prior: Tensor  # statistics
    first: tuple[State, Tensor] | None  # posterior and prior of the lower model


class Playing(NamedTuple):
    """What is remembered of rows that are played: the state of each model."""

    state: State
    first: State | None


class WorldModel(nn.Module):
    """All of a world's networks. `seed` fixes their first weights: Xavier's, with biases 0."""

    def __init__(self, config: DreamerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, sizes = config, config.rssm
        room = config.room or config.read_actions
        with torch.random.fork_rng(devices=[]):  # attention alone keeps what PyTorch draws
            torch.manual_seed(seed)
            self.encoder = ENCODERS[config.frames.kind](config.frames)
            embedded, self.first = config.frames.embedded, None
            if config.stacked:
                self.first = Rssm(sizes, room, embedded, acts=False)
                embedded = sizes.feature + (embedded if config.concat_embed else 0)
            self.rssm = Rssm(sizes, room, embedded, acts=config.reads != "nothing")
            self.decoder = DECODERS[config.frames.kind](config.frames, sizes.feature)
            video, encoded = config.reads == "video", config.reads == "encoded"
            self.latent_action = LatentAction(config.latent_action, config.frames) if video else None
            self.action_encoder = ActionEncoder(config.action_encoder, config.actions) if encoded else None
            self.reward = Number(config.heads, sizes.feature) if config.practises else None
            auxiliary = config.practises and config.weights.aux_reward > 0
            self.aux_reward = Number(config.heads, sizes.feature) if auxiliary else None
            self.discount = Number(config.ends_head, sizes.feature) if config.practises and config.ends else None
        draw = torch.Generator().manual_seed(seed)
        initialise(self, draw)
        paid = config.practises and config.bonus.weight > 0
        compared = config.frames.embedded if config.bonus_of == "embedding" else sizes.feature
        self.bonus = Bonus(config.bonus, compared, draw) if paid else None

    def take_over(self, other: "WorldModel") -> None:
        """Encoder, decoder and RSSM of a world of videos; where two are stacked, the lower one. All, or none with a
        ValueError that says what does not fit.
        """
        pairs = [
            (self.encoder, other.encoder),
            (self.decoder, other.decoder),
            (self.rssm if self.first is None else self.first, other.rssm),
        ]
        for mine, theirs in pairs:
            if faults := misfit(mine, theirs.state_dict()):
                raise ValueError(
                    f"This world cannot go on from that of videos, whose {type(mine).__name__} is another one: "
                    f"{faults}; give both the same rssm, frames and numbers of an action"
                )
        for mine, theirs in pairs:
            mine.load_state_dict(theirs.state_dict())

    # ---- segments ----

    def observe(self, segments: Segments, draws: Draws) -> Observed:
        """States of segments. Raises ValueError where the world reads actions and there are none."""
        frames_BTCRR = centred(segments.frames_BTCRR)
        embedded_BTE, context = self.embed(frames_BTCRR, draws)
        actions_BTA, latent_stats = self.read_actions(frames_BTCRR, segments.actions_BTA, draws)
        read_BTE, first = embedded_BTE, None
        if self.first is not None:
            first = self.first.observe(embedded_BTE, None, segments.first_BT, draws, what=FIRST_POSTERIOR)
            read_BTE = self.above(first[0].feature, embedded_BTE)
        posterior, prior = self.rssm.observe(read_BTE, actions_BTA, segments.first_BT, draws)
        return Observed(embedded_BTE, context, actions_BTA, latent_stats, posterior, prior, first)

    def embed(self, frames_BTCRR: Tensor, draws: Draws) -> tuple[Tensor, dict[int, Tensor]]:
        """Embedded frames (B, T, E) of centred ones, and what a context shows."""
        context = self.encoder.see(frames_BTCRR, draws) if isinstance(self.encoder, ContextEncoder) else {}
        return self.encoder(frames_BTCRR.flatten(0, 1)).unflatten(0, frames_BTCRR.shape[:2]), context

    def draw(self, features_BTZ: Tensor, context: dict[int, Tensor], draws: Draws) -> Tensor:
        """Centred frames (B, T, C, R, R) of features."""
        features = features_BTZ.flatten(0, 1)
        if isinstance(self.decoder, ContextDecoder):
            drawn = self.decoder.draw(features, context, draws)
        else:
            drawn = self.decoder(features)
        return drawn.float().unflatten(0, features_BTZ.shape[:2])

    def above(self, feature: Tensor, embedded: Tensor) -> Tensor:
        """What the upper model reads of a step."""
        return torch.cat([embedded, feature], dim=-1) if self.config.concat_embed else feature

    def read_actions(
        self, frames_BTCRR: Tensor, actions_BTA: Tensor | None, draws: Draws
    ) -> tuple[Tensor | None, Tensor | None]:
        """Actions of centred frames as the state-space model is given them, and what latent ones were drawn from.

        Raises ValueError where the world reads the environment's and there are none.
        """
        if self.latent_action is not None:
            return self.latent_action(frames_BTCRR, draws)
        if self.config.reads == "nothing":
            return None, None
        if actions_BTA is None:
            raise ValueError("Segments without actions: this world reads them; take reads=nothing or reads=video")
        return self.encoded(actions_BTA, draws), None

    def encoded(self, actions: Tensor, draws: Numbers | None) -> Tensor:
        """Actions (..., A) as the state-space model is given them."""
        return actions if self.action_encoder is None else self.action_encoder(actions, draws)

    # ---- steps ----

    def imagine_step(self, state: State, actions_NA: Tensor, draws: Numbers, layers: Layers | None = None) -> State:
        """The state that is expected after the environment's actions. layers: see `Rssm.imagine_step`."""
        return self.rssm.imagine_step(state, self.encoded(actions_NA, draws), draws, PRIOR, layers)

    def begin(self, rows: int) -> Playing:
        """Before the first frame."""
        return Playing(self.rssm.start(rows), None if self.first is None else self.first.start(rows))

    def follow(
        self, playing: Playing, actions_NA: Tensor, frames_NCRR: Tensor, first_N: Tensor, draws: Numbers | None
    ) -> Playing:
        """After the environment's actions led to frames (N, C, R, R) uint8. draws: None takes the likeliest states."""
        told = self.encoded(actions_NA, draws)
        return self.follow_embedded(playing, told, self.encoder(centred(frames_NCRR)), first_N, draws)

    def follow_embedded(
        self, playing: Playing, told: Tensor | None, embedded: Tensor, first_N: Tensor, draws: Numbers | None
    ) -> Playing:
        """`follow` of embedded frames (N, E), after actions as the state-space model is given them; None: of none."""
        below = None
        if self.first is not None and playing.first is not None:
            below = self.first.observe_step(playing.first, None, embedded, first_N, draws, FIRST_POSTERIOR)
            embedded = self.above(below.feature, embedded)
        return Playing(self.rssm.observe_step(playing.state, told, embedded, first_N, draws), below)


def centred(frames: Tensor) -> Tensor:
    """Bytes as float32 around 0."""
    return frames.float() / 255 - 0.5


def initialise(module: nn.Module, draw: torch.Generator) -> None:
    """Xavier's uniform weights and biases 0 for linear layers and convolutions below `module`; others stay."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=draw)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
