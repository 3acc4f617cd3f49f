"""Delta-IRIS against the plain way: rows of `worldline bench imagine`.

Sizes of both of its configs, Atari's and Crafter's, with random weights: imagination in the world model, which draws
the frames, and an update of the tokenizer. The plain way is that of the paper's code: K passes a step, the first of
which reads what the step before left; attention written out; all rows' frames drawn at once, by PyTorch's layers. Both
sides are given the same actions, and what they draw is compared. No actor plays: it would cost both the same.

Shapes: N rows, H steps, K tokens a change, L tokens, D width, C channels of R x R pixels, B segments, T steps.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models.api import Batch, Moment
from models.blocks.layers import decay_groups
from models.blocks.transformer import KVCache
from models.cpu import shortcuts
from models.delta_iris.agent import changes
from models.delta_iris.config import (
    DeltaActorConfig,
    DeltaIrisConfig,
    DeltaTokenizerConfig,
    EncoderConfig,
    StackConfig,
    WorldModelConfig,
)
from models.delta_iris.loss import tokenizer_loss
from models.delta_iris.numbers import points
from models.delta_iris.tokenizer import DeltaTokenizer, as_shown
from models.delta_iris.world import DeltaPlayer, as_observations
from models.delta_iris.world_model import WorldModel
from models.losses.binned import expected_value
from models.practice.draws import Draw, Sampled
from pipelines.progress import say
from pipelines.recipes.delta_iris import delta_iris_atari, delta_iris_crafter, networks
from pipelines.tools.bench import train_plain
from pipelines.tools.bench.row import Row
from pipelines.tools.bench.train import WEIGHT_DECAY, Step, Taken, in_turns, kind_row, kinds
from pipelines.training.device import Device

AIM, AIM_BF16 = 2.0, 4.0
AIM_TOKENIZER, AIM_TOKENIZER_BF16 = 1.5, 3.0
SAME_LOSS = 1e-5  # relative

ATARI, CRAFTER = networks(delta_iris_atari()), networks(delta_iris_crafter())


@dataclass(frozen=True)
class DeltaSizes:
    """What is measured, and how often: rows of a rollout, its steps, and segments of two steps in an update."""

    networks: tuple[tuple[str, DeltaIrisConfig], ...] = (("atari", ATARI), ("crafter", CRAFTER))
    rows: int = 64
    steps: int = 4
    segments: int = 32
    rounds: int = 1


_STACK = EncoderConfig(channels=8, mult=(1,), down=(1,), norm_groups=4, patch_stem=2, latent=8)
_TINY = DeltaIrisConfig(
    tokenizer=DeltaTokenizerConfig(
        vocab_size=16,
        code_dim=8,
        encoder=_STACK,
        decoder=StackConfig(channels=8, mult=(1,), down=(1,), norm_groups=4, patch_stem=2),
        frame_cnn=_STACK,
        resolution=16,
    ),
    world_model=WorldModelConfig(max_steps=3, layers=1, heads=2, width=128, frame_cnn=_STACK),
    actor_critic=DeltaActorConfig(resolution=16, frame_cnn=_STACK, hidden=16, burn_in=1),
)
QUICK_DELTA = DeltaSizes((("atari", _TINY),), rows=2, steps=3, segments=2)


@dataclass(frozen=True)
class Dreamt:
    """All that was drawn (N, draws), the last frames, and the rewards of all steps (N, H)."""

    drawn: Tensor
    frames: Tensor
    rewards_NH: Tensor


class PlainWorld:
    """Both networks with the weights of ours, and how they imagine from a frame."""

    def __init__(self, model: WorldModel, tokenizer: DeltaTokenizer) -> None:
        self.model, self.tokenizer = train_plain.plain(model, model.max_tokens), copy.deepcopy(tokenizer)
        self._points = points(model.pos_emb.weight.device)

    @torch.no_grad()
    def imagine(self, frames: Tensor, actions_NH: Tensor, draw: Draw) -> Dreamt:
        """As the paper says, step by step."""
        with shortcuts.off():
            cache, model = self.model.empty_cache(len(frames)), self.model
            self._read(self._seen(frames), cache)
            waiting_NLD, drawn, rewards = frames.new_zeros(len(frames), 0, model.config.width), [], []
            for actions_N in actions_NH.unbind(1):
                if cache.capacity - cache.length <= model.tokens_per_block:
                    cache, waiting_NLD = model.empty_cache(len(frames)), self._seen(frames)
                newest_ND = self._read(torch.cat([waiting_NLD, model.act_emb(actions_N[:, None])], dim=1), cache)
                said = model.head_rewards(newest_ND)
                if model.config.rewards == "sign":
                    drawn.append(draw("rewards", said))
                    rewards.append(drawn[-1].float() - 1)
                else:
                    rewards.append(expected_value(said, self._points))
                drawn.append(draw("ends", model.head_ends(newest_ND)))
                tokens = [draw("tokens", model.head_latents(newest_ND))]
                while len(tokens) < model.tokens_per_change:
                    newest_ND = self._read(model.latents_emb(tokens[-1][:, None]), cache)
                    tokens.append(draw("tokens", model.head_latents(newest_ND)))
                tokens_NK = torch.stack(tokens, dim=1)
                codes_nE = self.tokenizer.quantizer.codebook[tokens_NK.flatten()]
                frames = as_shown(self.tokenizer.draw(frames, actions_N, codes_nE))
                waiting_NLD = torch.cat([model.latents_emb(tokens[-1][:, None]), self._seen(frames)], dim=1)
                drawn += tokens
        return Dreamt(torch.stack(drawn, dim=1), frames, torch.stack(rewards, dim=1))

    def _seen(self, frames: Tensor) -> Tensor:
        return self.model.frame_cnn(frames)[:, None].float()

    def _read(self, x_NLD: Tensor, cache: KVCache) -> Tensor:
        return self.model.read(x_NLD, cache, newest=False)[:, -1]


def ours(player: DeltaPlayer, frames: Tensor, actions_NH: Tensor, draw: Draw) -> Dreamt:
    """The same by the player that agents practise with."""
    player.reset(as_observations(frames))
    signs, drawn, rewards = player.model.config.rewards == "sign", [], []
    for actions_N in actions_NH.unbind(1):
        step = player.step(actions_N, draw)
        rewards.append(step.rewards_N)
        drawn += [step.rewards_N.long() + 1] * signs + [step.ends_N.long(), *player.tokens_NK.unbind(1)]
    return Dreamt(torch.stack(drawn, dim=1), player.frame, torch.stack(rewards, dim=1))


def delta_rows(sizes: DeltaSizes) -> list[Row]:
    """Imagination of both configs, and an update of the tokenizer, which both have alike."""
    found = []
    for name, config in sizes.networks:
        say(f"Imagining with Delta-IRIS of {name.title()} ...")
        found += _imagination(name, config, sizes)
    say("Updating Delta-IRIS's tokenizer ...")
    return found + _updates(sizes.networks[0][1], sizes)


def sides(config: DeltaIrisConfig) -> tuple[PlainWorld, DeltaPlayer]:
    """The plain one and ours, of the same weights."""
    tokenizer = DeltaTokenizer(config.tokenizer).eval()
    model = WorldModel(config.world_model, config.tokenizer).eval()
    return PlainWorld(model, tokenizer), DeltaPlayer(model, tokenizer)


def _imagination(name: str, config: DeltaIrisConfig, sizes: DeltaSizes) -> list[Row]:
    plain, player = sides(config)
    frames, actions_NH = noise(config, sizes.rows, sizes.steps)
    kept: dict[str, Dreamt] = {}

    def dream(side: str, bf16: bool) -> None:
        draw = Sampled(0, "bench", Moment(step=0))
        with Device("cpu", bf16).autocast():
            if side == "plain":
                kept["plain"] = plain.imagine(frames, actions_NH, draw)
            else:
                kept[f"ours{bf16}"] = ours(player, frames, actions_NH, draw)

    calls = [partial(dream, "plain", False), *(partial(dream, "ours", bf16) for bf16 in kinds())]
    theirs, *taken = in_turns(sizes.rounds, *calls)
    steps = sizes.rows * sizes.steps

    def text(taken: Taken) -> str:
        return f"{steps / taken.wall:.1f} steps/s, {taken.cpu / steps * 1e3:.1f} ms CPU a step"

    def row(bf16: bool, one: Taken) -> Row:
        mine, other = kept[f"ours{bf16}"], kept["plain"]
        same = int((mine.drawn == other.drawn).all(1).sum())
        said = f"the same draws give the same rewards, ends and tokens in {same} of {sizes.rows} rows"
        what = f"Delta-IRIS of {name.title()} imagines {sizes.rows} rows x {sizes.steps} steps"
        aims = (AIM, AIM_BF16)
        return kind_row(f"delta-{name}", what, text, one, theirs, aims, bf16, (said, same == sizes.rows))

    return [row(*each) for each in zip(kinds(), taken, strict=True)]


def _updates(config: DeltaIrisConfig, sizes: DeltaSizes) -> list[Row]:
    tokenizer = DeltaTokenizer(config.tokenizer)
    frames, actions_BT = noise(config, 2 * sizes.segments, 1)
    batch = Batch(
        actions_BT=actions_BT.reshape(-1, 2),
        rewards_BT=torch.zeros(sizes.segments, 2),
        ends_BT=torch.zeros(sizes.segments, 2),
        mask_BT=torch.ones(sizes.segments, 2, dtype=torch.bool),
        games_B=torch.zeros(sizes.segments, dtype=torch.long),
        frames_BTCHW=frames.unflatten(0, (-1, 2)),
    )

    def loss(own: DeltaTokenizer, follows: bool, batch: Batch) -> Tensor:
        assert batch.frames_BTCHW is not None
        change = changes(batch.frames_BTCHW, batch.actions_BT)
        drawn = own(change)
        if follows:
            own.quantizer.follow(drawn.told.latents_nE, drawn.told.tokens_n)
        counts_2 = torch.full((2,), len(change.after), dtype=torch.float64)
        return tokenizer_loss(drawn, change, torch.ones(len(change.after)).bool(), counts_2, config.weights).total

    def step(bf16: bool) -> Callable[[], object]:
        own = copy.deepcopy(tokenizer)
        return partial(Step(own, decay_groups(own, WEIGHT_DECAY), partial(loss, own, True), Device("cpu", bf16)), batch)

    plain = step(False)

    def without_shortcuts() -> None:
        with shortcuts.off():
            plain()

    with torch.no_grad():
        mine = float(loss(tokenizer, False, batch))
        with shortcuts.off():
            other = float(loss(tokenizer, False, batch))
    theirs, *taken = in_turns(sizes.rounds, without_shortcuts, *(step(bf16) for bf16 in kinds()))
    apart = abs(1 - mine / other)
    said = (f"both losses are the same within {SAME_LOSS:g} (apart by {apart:.1g})", apart <= SAME_LOSS)

    def text(taken: Taken) -> str:
        return f"{taken.wall:.2f} s, {taken.cpu:.2f} s CPU"

    what, aims = f"update of Delta-IRIS's tokenizer, {sizes.segments} changes", (AIM_TOKENIZER, AIM_TOKENIZER_BF16)
    return [
        kind_row("delta-tokenizer", what, text, one, theirs, aims, bf16, said)
        for bf16, one in zip(kinds(), taken, strict=True)
    ]


def noise(config: DeltaIrisConfig, rows: int, steps: int) -> tuple[Tensor, Tensor]:
    """Frames (N, C, R, R) in [0, 1], in bytes' steps, and actions (N, H)."""
    sizes, draws = config.tokenizer, torch.Generator().manual_seed(0)
    frames = torch.rand(rows, sizes.frame_channels, sizes.resolution, sizes.resolution, generator=draws)
    return as_shown(frames), torch.randint(0, sizes.num_actions, (rows, steps), generator=draws)
