"""A world model as an actor-critic practises in it and as a person plays it: one step after another, for N rows.

Every kind of world model is played by a `Player`, and imagination knows no more than that.

Shapes: N rows, K tokens a frame, C steps of context; B segments, T steps, L tokens, D width, V vocabulary, S = T * K.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.api import Context, Imagined, Remembered
from models.practice.draws import Draw, likeliest


@dataclass(frozen=True)
class Outputs:
    """Of whole segments: hidden states (B, L, D), observations (B, T * K, V), rewards (B, T, 3 or bins) and ends
    (B, T, 2).

    Entry s of `observations` predicts the segment's observation token s + `ahead`, of entry s of `latents` where these
    are told; reward classes are -1, 0 and 1, or bins.
    """

    hidden_BLD: Tensor
    observations_BSV: Tensor
    rewards_BTV: Tensor
    ends_BT2: Tensor
    ahead: int = 1
    latents_BSD: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What followed an action: its reward, or what that is worth to who practises; whether the game ended; and the next
    frame's tokens, if wanted.
    """

    rewards_N: Tensor  # float32
    ends_N: Tensor  # bool
    tokens_NK: Tensor | None  # long


class Player(Protocol):
    """A world model that is being played. Its network should be in eval mode; nothing here has gradients."""

    def reset(self, tokens_NK: Tensor) -> None:
        """reset(tokens (N, K) of a frame) -> None: forget everything and stand there, without history"""
        ...

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """step(actions (N,), draw, observe) -> Step; where `observe` is False no next frame is made: the last step"""
        ...


class RememberingPlayer(Player, Protocol):
    """A player that can be given a history, and says what it still knows."""

    def follow(self, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
        """follow(tokens (N, C, K), actions (N, C - 1)) -> None: forget everything and stand at the newest frame"""
        ...

    @property
    def remembered(self) -> Remembered:
        """See `models.api.Dream`."""
        ...


class CuriousPlayer(RememberingPlayer, Protocol):
    """A player whose steps may be worth more than their rewards: see `models.practice.outcome.worth_of`."""

    worth: tuple[float, float] | None


def require_frames(tokens: Tensor, tokens_per_frame: int) -> None:
    """Raises ValueError where frames (N, ..., K) have another number of tokens."""
    if tokens.shape[-1] != tokens_per_frame:
        raise ValueError(f"Tokens {tuple(tokens.shape)} are no frames of {tokens_per_frame} tokens")


def require_segments(tokens_BTK: Tensor, max_steps: int, tokens_per_frame: int) -> None:
    """Raises ValueError where segments are longer than a world model can read, or have other frames."""
    steps, per_frame = tokens_BTK.shape[1:]
    if steps > max_steps or per_frame != tokens_per_frame:
        raise ValueError(
            f"Segments of {steps} steps of {per_frame} tokens do not fit a world model of {max_steps} steps of "
            f"{tokens_per_frame}: cut them shorter"
        )


class PlayedWorld:
    """A player as a `models.api.Dream`: a single line of steps, which values no actions.

    own: turns the environment's actions into those that the player knows.
    """

    def __init__(
        self,
        player: RememberingPlayer,
        draw: Draw = likeliest,
        own: Callable[[Tensor], Tensor] = lambda actions: actions,
    ) -> None:
        self._player, self._draw, self._own = player, draw, own
        self._nodes = self._rows = 0

    @property
    def remembered(self) -> Remembered:
        """See `models.api.Dream`."""
        return self._player.remembered

    def reset(self, context: Context) -> Imagined:
        """See `models.api.WorldModel`."""
        self._rows, self._nodes = len(context.tokens_NCK), 1
        self._player.follow(context.tokens_NCK, self._own(context.actions_NC))
        nothing_N = context.games_N.new_zeros(self._rows)
        return self._here(nothing_N.float(), nothing_N.bool(), context.tokens_NCK[:, -1])

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `models.api.WorldModel`. Raises ValueError where anything but the newest step is to be continued."""
        newest = self._nodes - 1
        if len(actions_M) != self._rows or (parents_M is not None and not bool((parents_M == newest).all())):
            raise ValueError(
                f"{len(actions_M)} actions for {self._rows} rows: this world goes on from its newest step alone, with "
                "an action a row"
            )
        self._nodes += 1
        found = self._player.step(self._own(actions_M), self._draw)
        assert found.tokens_NK is not None, "a next frame was wanted"
        return self._here(found.rewards_N, found.ends_N, found.tokens_NK)

    def _here(self, rewards_N: Tensor, ends_N: Tensor, tokens_NK: Tensor) -> Imagined:
        return Imagined(rewards_N.new_zeros(len(rewards_N), 0), rewards_N, ends_N, tokens_NK)
