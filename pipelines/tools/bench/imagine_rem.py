"""REM's imagination against itself without what makes it fast: rows of `worldline bench imagine`.

The paper's sizes with random weights: rollouts of 128 rows from a context of 2 frames to a horizon of 10 blocks, the
world model alone. Ours reads a block and predicts the next frame in one pass (POP, fused); the plain way does so in two
passes of plain layers; without POP a step is 65 passes of one token. Fused and plain draw the same numbers, and what
they draw is compared; the third is another model, of the same size.

Shapes: N rows, K tokens a frame.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models.api import Moment
from models.cpu import shortcuts
from models.practice.draws import Sampled
from models.rem.agent import RemAgent
from models.rem.config import TOKENIZER, RemActorConfig, RemConfig, WorldModelConfig
from models.rem.world import RemPlayer
from pipelines.progress import say
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import Taken, in_turns

AIM_FUSED, AIM_POP = 1.5, 15.0
SAME_ROWS = 0.95  # of all; where a sum is rounded otherwise a draw may fall otherwise, and all of its row that follows


@dataclass(frozen=True)
class RemSizes:
    """What is measured, and how often."""

    networks: RemConfig = field(default_factory=RemConfig)
    rows: int = 128
    segments: int = 64
    rounds: int = 1


QUICK_REM = RemSizes(
    RemConfig(
        frame=(16, 16, 3),
        tokenizer=replace(
            TOKENIZER, vocab_size=16, embed_dim=16, z_channels=16, channels=4, norm_groups=2, resolution=16
        ),
        world_model=WorldModelConfig(4, 1, 2, 16),
        actor_critic=RemActorConfig(hidden=8, resolution=16, horizon=4, burn_in=2),
    ),
    rows=2,
    segments=2,
)


class TwoPasses(RemPlayer):
    """What was read and what is predicted each in a pass of its own, all of every layer, as the original does."""

    ends_only = False

    def _read(self, actions_N: Tensor, predict: bool) -> Tensor:
        super()._read(actions_N, False)
        if not predict:
            return self.waiting_NLD[:, :0]
        self.passes += 1
        tokens_NKD = self.model.prediction_tokens(len(actions_N), 1)[:, 0]
        return self.model.retnet.predict(tokens_NKD, self.retained, self.length)


class Rollout:
    """Imagines a rollout when it is called; `tokens_NHK` are those that it drew last."""

    def __init__(self, player: RemPlayer, config: RemConfig, rows: int, *, plain: bool = False) -> None:
        self._player, self._config, self._rows, self._plain = player, config, rows, plain
        self.tokens_NHK = torch.zeros(rows, 0, 0)

    def __call__(self) -> None:
        if not self._plain:
            return self._imagine()
        with shortcuts.off():
            return self._imagine()

    def _imagine(self) -> None:
        config, draws = self._config, torch.Generator().manual_seed(0)
        context, steps = config.world_model.context, config.imagined_steps
        shape = (self._rows, context, config.tokenizer.tokens_per_frame)
        tokens_NCK = torch.randint(0, config.tokenizer.vocab_size, shape, generator=draws)
        actions_NS = torch.randint(0, config.world_model.num_actions, (self._rows, context + steps), generator=draws)
        self._player.follow(tokens_NCK, actions_NS[:, : context - 1])
        draw, found = Sampled(0, "bench", Moment(step=0)), []
        for step in range(steps):
            seen = self._player.step(actions_NS[:, context - 1 + step], draw, observe=step < steps - 1)
            if seen.tokens_NK is not None:
                found.append(seen.tokens_NK)
        self.tokens_NHK = torch.stack(found, dim=1)


def sides(sizes: RemSizes) -> tuple[Rollout, Rollout, Rollout]:
    """Ours, the plain way, and token by token without POP."""
    config, rows = sizes.networks, sizes.rows
    agent = RemAgent(config)
    other = RemAgent(replace(config, world_model=replace(config.world_model, pop=False)))
    for each in (agent, other):
        each.world_model.eval()
    return (
        Rollout(agent.player(), config, rows),
        Rollout(TwoPasses(agent.world_model, agent.codes), config, rows, plain=True),
        Rollout(other.player(), config, rows),
    )


def rem_rows(sizes: RemSizes) -> list[Row]:
    """An imagined step: fused against plain, and against token by token."""
    say("Imagining with REM ...")
    fused, plain, sequential = sides(sizes)
    ours, theirs, by_token = in_turns(sizes.rounds, fused, plain, sequential)
    same = int((fused.tokens_NHK == plain.tokens_NHK).flatten(1).all(1).sum())
    said = f"the same draws give the same tokens in {same} of {sizes.rows} rows, of which {SAME_ROWS:.0%} are asked for"
    passes = sizes.networks.tokenizer.tokens_per_frame + 1
    return [
        _row(sizes, "rem-fused", "REM in two passes, plain, float32", ours, theirs, AIM_FUSED, (said, same)),
        _row(sizes, "rem-pop", f"REM without POP, {passes} passes, float32", ours, by_token, AIM_POP),
    ]


def _row(
    sizes: RemSizes,
    name: str,
    against: str,
    ours: Taken,
    theirs: Taken,
    aim: float,
    same: tuple[str, int] = ("", 0),
) -> Row:
    config, steps = sizes.networks, sizes.networks.imagined_steps

    def text(taken: Taken) -> str:
        return f"{taken.wall / steps:.2f} s a step, {taken.cpu / steps:.2f} s CPU"

    return Row(
        name,
        f"an imagined step of REM, {sizes.rows} rows, horizon {config.actor_critic.horizon}, float32",
        against,
        text(ours),
        text(theirs),
        theirs.wall / ours.wall,
        aim,
        theirs.cpu / ours.cpu,
        conditions=((same[0], same[1] >= SAME_ROWS * sizes.rows),) if same[0] else (),
    )
