"""A full context read in one pass, against the same frames given step by step: rows of `worldline bench imagine`.

IRIS's world model with random weights, float32, as many frames as it remembers. The other side gives each frame to the
player as if it had been imagined: a pass a token, and the heads that say something there. No aim was set.
Shapes: N rows, C frames of context, K tokens a frame.
"""

from functools import partial

import torch
from torch import Tensor

from models.iris.config import WorldModelConfig
from models.iris.world import TokenPlayer
from models.iris.world_model import WorldModel
from models.practice.draws import Given
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import Taken, in_turns

NEAR = 1e-4  # of hidden states, which a LayerNorm leaves at about 1


def context_rows(config: WorldModelConfig, rows: tuple[int, ...], rounds: int) -> list[Row]:
    """A row for each number of rows."""
    say("Reading a context ...")
    model = WorldModel(config).eval()
    return [_row(model, each, rounds) for each in rows]


def step_by_step(player: TokenPlayer, tokens_NCK: Tensor, actions_NC: Tensor) -> None:
    """Read a context as if it had been imagined."""
    player.reset(tokens_NCK[:, 0])
    nothing_N = tokens_NCK.new_zeros(len(tokens_NCK))
    for actions_N, tokens_NK in zip(actions_NC.unbind(1), tokens_NCK[:, 1:].unbind(1), strict=True):
        player.step(actions_N, Given(rewards=[nothing_N], ends=[nothing_N], tokens=list(tokens_NK.unbind(1))))


def _row(model: WorldModel, rows: int, rounds: int) -> Row:
    config, drawn = model.config, torch.Generator().manual_seed(0)
    shape = (rows, config.max_steps, config.tokens_per_frame)
    tokens_NCK = torch.randint(0, config.vocab_size, shape, generator=drawn)
    actions_NC = torch.randint(0, config.num_actions, (rows, config.max_steps - 1), generator=drawn)
    plain, player = TokenPlayer(model), TokenPlayer(model)
    theirs, ours = in_turns(
        rounds, partial(step_by_step, plain, tokens_NCK, actions_NC), partial(player.follow, tokens_NCK, actions_NC)
    )
    apart = float((plain.newest_ND - player.newest_ND).abs().max())
    said = f"hidden states of the newest token are the same within {NEAR:g} (apart by {apart:.1g})"

    def text(taken: Taken) -> str:
        return f"{taken.wall * 1e3:.0f} ms, {taken.cpu * 1e3:.0f} ms CPU"

    return Row(
        f"context-{rows}",
        f"reading a context, {rows} rows x {config.max_steps} frames, float32",
        "a pass a token",
        text(ours),
        text(theirs),
        theirs.wall / ours.wall,
        None,
        theirs.cpu / ours.cpu,
        conditions=((said, apart <= NEAR),),
    )
