"""A world of the Dreamer family that others play in: what they begin with, what it imagines, and how that is drawn.

An observation is a frame, embedded, and behind it the feature of a state; of what is imagined there is the feature
alone, and zeros before it. The feature of a real frame is that of a state that saw this frame and nothing before it.
Decoders that look at a context (ContextWM) find it at the observation's end: the frame itself, or the newest real one
before what is imagined. A world of videos is told no action: it expects what follows from none.

Shapes: N rows, C steps of context, R x R pixels of V colours, A numbers of an action, E of an embedded frame, Z of a
feature, P of a context's pixels (0 without one); K = E + Z + P of an observation.
"""

import torch
from torch import Tensor

from models.api import Moment
from models.dreamer.config import DreamerConfig
from models.dreamer.world_model import WorldModel, centred
from models.rssm.chance import Numbers, Seeded
from models.rssm.context import ContextEncoder
from models.worlds import Context, Imagined, Remembered


def sizes(config: DreamerConfig) -> list[int]:
    """E, Z and P."""
    pixels = 3 * config.frames.resolution**2 if config.frames.kind == "context" else 0
    return [config.frames.embedded, config.rssm.feature, pixels]


@torch.no_grad()
def seen_alone(world: WorldModel, frames: Tensor) -> Tensor:
    """Observations (..., K) of frames (..., V, R, R) uint8, each seen alone: of likeliest states."""
    many = centred(frames.reshape(-1, *frames.shape[-3:]))
    embedded_NE = world.encoder(many)
    first_N = torch.ones(len(many), dtype=torch.bool, device=many.device)
    state = world.follow_embedded(world.begin(len(many)), None, embedded_NE, first_N, None).state
    context_NP = many.flatten(1)[:, : sizes(world.config)[2]]
    seen_NK = torch.cat([embedded_NE.float(), state.feature.float(), context_NP], dim=1)
    return seen_NK.reshape(*frames.shape[:-3], -1)


@torch.no_grad()
def pictures(world: WorldModel, observations: Tensor) -> Tensor:
    """Frames (..., V, R, R) in [0, 1] of the features in observations (..., K); the same ones whenever it is asked."""
    many_NK = observations.reshape(-1, observations.shape[-1])
    _, feature_NZ, context_NP = many_NK.split(sizes(world.config), dim=1)
    draws, context = Seeded(0, "pictures", Moment(0)), {}
    if isinstance(world.encoder, ContextEncoder):
        size = world.config.frames.resolution
        context = world.encoder.see(context_NP.unflatten(1, (1, 3, size, size)), draws)
    drawn = world.draw(feature_NZ[:, None], context, draws)[:, 0]
    return (drawn + 0.5).clamp(0, 1).reshape(*observations.shape[:-1], *drawn.shape[1:])


class PlayedWorld:
    """Plays rows one step after the other, in eval mode. draws: None takes the likeliest states.

    It tells rewards, where the world learned them, and never an end: no step of stored episodes shows one.
    """

    def __init__(self, world: WorldModel, draws: Numbers | None = None) -> None:
        self._world, self._draws = world, draws
        self._playing, self._steps = world.begin(0), 0
        self._context_NP = torch.zeros(0, 0)

    @torch.no_grad()
    def reset(self, context: Context) -> Imagined:
        """See `models.api.WorldModel`: it has seen these frames one after the other."""
        world, (rows, steps, _) = self._world, context.tokens_NCK.shape
        embedded_NCE, _, context_NCP = context.tokens_NCK.split(sizes(world.config), dim=2)
        self._playing, self._steps, self._context_NP = world.begin(rows), steps, context_NCP[:, -1]
        first_N = torch.ones(rows, dtype=torch.bool, device=embedded_NCE.device)
        for step in range(steps):
            told = self._told(context.actions_NC[:, step - 1]) if step else None
            self._playing = world.follow_embedded(self._playing, told, embedded_NCE[:, step], first_N, self._draws)
            first_N = torch.zeros_like(first_N)
        return self._imagined(rewarded=False)

    @torch.no_grad()
    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `models.api.WorldModel`. Raises ValueError for parents: no tree is kept, as nothing searches here."""
        if parents_M is not None:
            raise ValueError("Worlds of the Dreamer family are played on and on: no step goes on from an earlier one")
        state = self._world.rssm.imagine_step(self._playing.state, self._told(actions_M), self._draws)
        self._playing, self._steps = self._playing._replace(state=state), self._steps + 1
        return self._imagined(rewarded=True)

    @property
    def remembered(self) -> Remembered:
        """A state has room for every step."""
        return Remembered(self._steps, 0, "", 1)

    def _told(self, actions: Tensor) -> Tensor | None:
        """Actions (N, A) as the state-space model is given them."""
        return self._world.encoded(actions, self._draws) if self._world.config.practises else None

    def _imagined(self, rewarded: bool) -> Imagined:
        world, feature_NZ = self._world, self._playing.state.feature.float()
        nothing_N = feature_NZ.new_zeros(len(feature_NZ))
        head = world.reward if world.aux_reward is None else world.aux_reward  # the other one knows a bonus too
        rewards_N = head(feature_NZ) if rewarded and head is not None else nothing_N
        blank_NE = feature_NZ.new_zeros(len(feature_NZ), sizes(world.config)[0])
        seen_NK = torch.cat([blank_NE, feature_NZ, self._context_NP.to(feature_NZ)], dim=1)
        return Imagined(feature_NZ.new_zeros(len(feature_NZ), 0), rewards_N, nothing_N.bool(), seen_NK)
