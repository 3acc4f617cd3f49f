"""IRIS against the plain way, measured side by side: `worldline bench imagine [--rows 16] [--quick]`.

The paper's sizes with random weights, on 2 threads: imagination of 64 rows x 20 steps, an update of the world model on
64 segments of 20 steps, and one game under the rules `iris-train`. Plain and ours work in turns in one process; the
figures are medians. What both sides made is compared, and a row whose sides differ has not reached its aim. Fewer rows
cost as much a frame but for what does not grow with them. A full context is read (`imagine_context.py`). Rows of REM
follow (`imagine_rem.py`), of families of one size (`imagine_families.py`) and of Delta-IRIS (`imagine_delta.py`).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from models.api import Batch, Moment
from models.blocks.layers import decay_groups
from models.iris.config import ActorCriticConfig, IrisConfig, WorldModelConfig
from models.iris.loss import world_model_counts, world_model_loss
from models.iris.world import player_of
from models.iris.world_model import WorldModel
from models.practice.actor_critic import ActorCritic
from models.practice.draws import Draw, Sampled
from models.practice.imagination import Rollout, imagine
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from pipelines.progress import say
from pipelines.tools.bench import train_plain
from pipelines.tools.bench.imagine_context import context_rows
from pipelines.tools.bench.imagine_delta import QUICK_DELTA, DeltaSizes, delta_rows
from pipelines.tools.bench.imagine_families import FamilySizes, family_rows
from pipelines.tools.bench.imagine_games import games_row
from pipelines.tools.bench.imagine_plain import Plain
from pipelines.tools.bench.imagine_rem import QUICK_REM, RemSizes, rem_rows
from pipelines.tools.bench.imagine_rem_update import update_rows
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import (
    THREADS,
    WEIGHT_DECAY,
    Step,
    Taken,
    in_turns,
    kind_row,
    kinds,
    random_batch,
    threads,
)
from pipelines.training.device import Device

AIM, AIM_BF16 = 2.0, 4.0

AIM_UPDATE, AIM_UPDATE_BF16 = 1.5, 3.0

SAME_LOSS = 1e-5  # relative


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often: rollouts, and rounds of all else, each of so many steps of the game."""

    networks: IrisConfig = field(default_factory=IrisConfig)
    rows: int = 64
    rollouts: int = 1
    rounds: int = 3
    contexts: tuple[int, ...] = (1, 32)  # rows whose context is read
    game: str = "Breakout"
    steps: int = 500
    threads: int = THREADS
    rem: RemSizes = field(default_factory=RemSizes)
    families: FamilySizes = field(default_factory=FamilySizes)
    delta: DeltaSizes = field(default_factory=DeltaSizes)


FULL = Sizes()

QUICK = Sizes(
    IrisConfig(
        frame=(16, 16, 3),
        tokenizer=TokenizerConfig(
            vocab_size=32,
            embed_dim=16,
            z_channels=16,
            channels=8,
            res_blocks=1,
            norm_groups=4,
            downsample=(2, 2),
            resolution=16,
            attention_at=(8,),
            initial="uniform",
        ),
        world_model=WorldModelConfig(vocab_size=32, layers=1, heads=2, width=32, max_steps=3),
        actor_critic=ActorCriticConfig(channels=(4, 4), hidden=16, resolution=16, horizon=4),
    ),
    rows=2,
    rounds=1,
    contexts=(1, 2),
    steps=40,
    threads=1,
    rem=QUICK_REM,
    families=FamilySizes(rem=QUICK_REM.networks, rows=2, frames=2),
    delta=QUICK_DELTA,
)


def run(sizes: Sizes) -> list[Row]:
    """Measure all rows."""
    with threads(sizes.threads):
        return [
            *_imagination(sizes),
            *_updates(sizes),
            *context_rows(sizes.networks.world_model, sizes.contexts, sizes.rounds),
            games_row(sizes.game, sizes.steps, sizes.rounds),
            *rem_rows(sizes.rem),
            *update_rows(sizes.rem.networks, sizes.rem.segments, sizes.rem.rounds),
            *family_rows(sizes.families),
            *delta_rows(sizes.delta),
        ]


class Kept:
    """A call that keeps what it returned last: a rollout, and all that was drawn on its way."""

    def __init__(self, call: Callable[[], tuple[Rollout, Tensor]]) -> None:
        self._call = call
        self._last: tuple[Rollout, Tensor] | None = None

    def __call__(self) -> None:
        self._last = None  # a rollout's graph is large: not two at once
        self._last = self._call()

    @property
    def result(self) -> tuple[Rollout, Tensor]:
        """Of the last call."""
        assert self._last is not None, "it was called"
        return self._last


# ---- imagination ----


class Ours:
    """Our networks, and how they imagine."""

    def __init__(self, config: IrisConfig) -> None:
        self.tokenizer = Tokenizer(config.tokenizer).eval()
        self.world_model = WorldModel(config.world_model).eval()
        self.actor_critic = ActorCritic(config.actor_critic)
        self._player = player_of(self.world_model)

    def imagine(self, tokens_NK: Tensor, horizon: int, draw: Draw) -> Rollout:
        """A rollout from frames, with no memory of earlier ones."""
        memory = self.actor_critic.fresh(len(tokens_NK))
        decode = self.tokenizer.decode_tokens
        self._player.reset(tokens_NK)
        return imagine(self.actor_critic, self._player, decode, tokens_NK, memory, horizon, draw)


class Noted:
    """Draws as another does, and notes every class that it gave."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.classes: list[Tensor] = []

    def __call__(self, what: str, logits_NV: Tensor) -> Tensor:
        self.classes.append(self._draw(what, logits_NV))
        return self.classes[-1]


def dreamt(
    rollout: Callable[[Tensor, int, Draw], Rollout], tokens_NK: Tensor, horizon: int, device: Device
) -> tuple[Rollout, Tensor]:
    """A rollout, and all that was drawn on its way, (N, draws): tokens, actions, rewards and ends."""
    draw = Noted(Sampled(0, "bench", Moment(step=0)))
    with device.autocast():
        found = rollout(tokens_NK, horizon, draw)
    return found, torch.stack(draw.classes, dim=1)


def _imagination(sizes: Sizes) -> list[Row]:
    say("Imagining ...")
    config, horizon = sizes.networks, sizes.networks.actor_critic.horizon
    ours = Ours(config)
    plain = Plain(ours.tokenizer, ours.world_model, ours.actor_critic)
    tokens_NK = random_frames(config.world_model, sizes.rows)
    types = kinds()
    calls = [
        Kept(partial(dreamt, side, tokens_NK, horizon, Device("cpu", bf16)))
        for side, bf16 in ((plain.imagine, False), *((ours.imagine, bf16) for bf16 in types))
    ]
    theirs, *taken = in_turns(sizes.rollouts, *calls)
    frames = sizes.rows * horizon

    def text(taken: Taken) -> str:
        return f"{taken.wall / frames * 1e3:.1f} ms a frame, {taken.cpu / frames * 1e3:.1f} ms CPU"

    def row(bf16: bool, ours: Taken, call: Kept) -> Row:
        (plainly, drawn), (mine, others) = calls[0].result, call.result
        same = int((drawn == others).all(1).sum())
        said = f"the same draws give the same tokens, actions, rewards and ends in {same} of {sizes.rows} rows"
        apart = float((plainly.seen_NHCHW - mine.seen_NHCHW).abs().max())
        return kind_row(
            "imagine",
            f"imagination, {sizes.rows} rows x {horizon} steps",
            text,
            ours,
            theirs,
            (AIM, AIM_BF16),
            bf16,
            (said, same == sizes.rows),
            f"frames at most {apart:.1g} apart, of a range of 1",
        )

    return [row(*each) for each in zip(types, taken, calls[1:], strict=True)]


# ---- updates ----


def random_frames(config: WorldModelConfig, rows: int) -> Tensor:
    """Random tokens (N, K) of frames to imagine from."""
    shape = (rows, config.tokens_per_frame)
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(0))


def world_loss(model: WorldModel, batch: Batch) -> Tensor:
    """The sum of the three losses."""
    assert batch.tokens_BTK is not None
    outputs = model(batch.tokens_BTK, batch.actions_BT)
    return world_model_loss(outputs, batch, world_model_counts(batch, model.config)).total


def _updates(sizes: Sizes) -> list[Row]:
    say("Updating the world model ...")
    config, types = sizes.networks.world_model, kinds()
    model, batch = WorldModel(config).eval(), random_batch(config, sizes.rows)
    plain = train_plain.plain(model, config.max_tokens)
    with torch.no_grad():
        apart = abs(1 - float(world_loss(model, batch)) / float(world_loss(plain, batch)))
    said = f"without dropout both losses are the same within {SAME_LOSS:g} (apart by {apart:.1g})"

    def step(model: WorldModel, bf16: bool) -> Callable[[], float]:
        device = Device("cpu", bf16)
        return partial(Step(model, decay_groups(model, WEIGHT_DECAY), partial(world_loss, model), device), batch)

    theirs, *taken = in_turns(sizes.rounds, step(plain, False), *(step(copy.deepcopy(model), bf16) for bf16 in types))

    def text(taken: Taken) -> str:
        return f"{taken.wall:.2f} s, {taken.cpu:.2f} s CPU"

    what = f"update of the world model, {sizes.rows} segments x {config.max_steps} steps"
    aims = (AIM_UPDATE, AIM_UPDATE_BF16)
    return [
        kind_row("world-model", what, text, ours, theirs, aims, bf16, (said, apart <= SAME_LOSS))
        for bf16, ours in zip(types, taken, strict=True)
    ]
