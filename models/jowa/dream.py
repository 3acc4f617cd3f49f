"""JOWA dreams on and on: a window over the newest steps, which slides where it is full.

The transformer has positions for `max_steps` steps. Where the next one would be beyond them, the oldest is dropped and
the others are read anew, as `JowaPolicy` reads its context before every decision: what is remembered always begins at
position 0.

Shapes: N rows, C steps of context, K tokens a frame.
"""

import torch
from torch import Tensor

from models.api import Context, Imagined, Remembered
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld


class JowaDream:
    """A `models.api.Dream`. Draws from `sampler` where one is given, else it takes the likeliest."""

    def __init__(self, model: Jowa, sampler: torch.Generator | None = None) -> None:
        self._world, self._config = JowaWorld(model.eval(), sampler), model.config
        self._context: Context | None = None

    @property
    def remembered(self) -> Remembered:
        """See `models.api.Dream`."""
        return self._remembered

    def reset(self, context: Context) -> Imagined:
        """Read the newest steps of the context, as many as there is room for."""
        self._context = context.last(self._config.max_steps)
        self._remember("", 1)
        return self._world.reset(self._context)

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """One step further. Raises ValueError before any reset."""
        if self._context is None:
            raise ValueError("This dream has no rows yet: call reset(context) first")
        context, forgot = self._context, ""
        if context.tokens_NCK.shape[1] == self._config.max_steps:
            context, forgot = context.last(self._config.max_steps - 1), "slide"
            self._world.reset(context)
        here = self._world.step(actions_M)
        tokens_NCK = torch.cat([context.tokens_NCK, here.tokens_NK[:, None]], dim=1)
        actions_NC = torch.cat([context.actions_NC, actions_M[:, None]], dim=1)
        self._context = Context(tokens_NCK, actions_NC, context.games_N)
        self._remember(forgot, self._world.passes + bool(forgot))
        return here

    def _remember(self, forgot: str, passes: int) -> None:
        assert self._context is not None
        self._remembered = Remembered(self._context.tokens_NCK.shape[1], self._config.max_steps, forgot, passes)
