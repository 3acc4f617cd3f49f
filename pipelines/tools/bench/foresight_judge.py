"""By what a JOWA world model's foresight is judged: held-out segments and paths, and states in which actions matter.

`foresight.py` asks for it; nothing runs by itself here.

Shapes: B segments, T steps, H steps ahead, S states, A the game's legal actions, M = S * A rows, C steps of context.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.api import Batch, Context
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation
from pipelines.environments.atari.environment import EmulatorGame
from pipelines.environments.atari.games import SCRIPTS
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError
from pipelines.evaluation.look_ahead import Looker, Seen
from pipelines.evaluation.verdict import ranked
from pipelines.progress import track
from pipelines.training.device import Device
from pipelines.training.inputs import held_out_from, tensors, to_batch

AHEAD = 4  # steps whose rewards are foreseen, or for which an action is held
PATHS, SEGMENTS, AT_ONCE = 400, 256, 8  # held-out paths and segments; states that are imagined at once


@dataclass(frozen=True)
class Crossroads:
    """States in which it matters which action is held for AHEAD steps, by the emulator itself."""

    seen: Seen  # of S states
    brought_SA: NDArray[np.float64]  # the sum of the rewards' signs

    @property
    def chance(self) -> float:
        """How often an action drawn at random is a best one."""
        return float((self.brought_SA == self.brought_SA.max(1, keepdims=True)).mean())


def crossroads(looker: Looker, game: EmulatorGame, count: int, explore: float = 0.5) -> Crossroads:
    """`count` such states of a play by the game's script, with random actions in between. UsageError for none."""
    script, draws, legal = SCRIPTS.get(looker.game), np.random.default_rng(game.seeds[0]), looker.legal
    found, brought, last_1 = list[Seen](), list[NDArray[np.float64]](), np.zeros(1, int)
    frames_1HW = game.reset()
    seen = Seen(
        looker.encode(frames_1HW)[:, None],
        torch.zeros(1, 0, dtype=torch.long, device=looker._device),
        game_id(looker.game),
    )
    with track(f"Look for crossroads of {looker.game}", count, "states") as advance:
        for step in range(count * 200):
            if step % AHEAD == 0 and seen.tokens_ECK.shape[1] == looker.context:
                sums_A = np.array([np.sign(game.held(0, int(action), AHEAD)).sum() for action in legal])
                if sums_A.min() < sums_A.max():
                    found.append(seen)
                    brought.append(sums_A)
                    advance()
            if len(found) == count:
                break
            if script is None or draws.random() < explore:
                last_1 = draws.choice(legal, 1)
            else:
                last_1 = script(frames_1HW, last_1)
            played = game.step(last_1)
            frames_1HW = played.frames
            tokens_1K = looker.encode(frames_1HW)
            if played.ended[0]:
                seen = Seen(tokens_1K[:, None], seen.actions_EC[:, :0], seen.game)
            else:
                seen = seen.then(torch.as_tensor(last_1, device=tokens_1K.device), tokens_1K, looker.context)
    if not found:
        raise UsageError(f"In {looker.game} no action held for {AHEAD} steps brought other rewards than another")
    tokens_SCK, actions_SC = (
        torch.cat(each) for each in zip(*((s.tokens_ECK, s.actions_EC) for s in found), strict=True)
    )
    return Crossroads(Seen(tokens_SCK, actions_SC, seen.game), np.stack(brought))


@dataclass(frozen=True)
class HeldOut:
    """What world models are judged by: segments and paths of held-out episodes, and crossroads of a fresh play."""

    segments: Batch
    paths: Context  # the steps before
    ahead_SH: Tensor  # actions taken from there on
    brought_S: NDArray[np.float64]  # the sum of their rewards' signs
    crossroads: Crossroads
    legal_A: Tensor

    def row(self, model: Jowa) -> tuple[float, float, float, float, float]:
        """The next token's loss, what random actions cost it, paths and actions ranked rightly, best action found."""
        model.eval()
        shuffled = replace(self.segments, actions_BT=self.legal_A[_drawn(self.segments.actions_BT, len(self.legal_A))])
        with torch.inference_mode():
            losses = [float(world_loss(model, each).terms["observations"]) for each in (self.segments, shuffled)]
            paths = ranked(imagined(model, self.paths, self.ahead_SH).numpy(), self.brought_S)
            found_SA = self._imagined(model)
        real_SA = self.crossroads.brought_SA
        ranks = [ranked(found, real) for found, real in zip(found_SA, real_SA, strict=True)]
        assert paths is not None, "some paths bring something and some do not"
        best = real_SA[np.arange(len(real_SA)), found_SA.argmax(1)] == real_SA.max(1)
        return (
            losses[0],
            losses[1] - losses[0],
            paths,
            float(np.mean([each for each in ranks if each is not None])),
            best.mean(),
        )

    def _imagined(self, model: Jowa) -> NDArray[np.float64]:
        """Sums (S, A) of imagined rewards, each action held."""
        found, actions = [], len(self.legal_A)
        for rows in torch.arange(len(self.crossroads.brought_SA)).split(AT_ONCE):
            here = self.crossroads.seen
            some = Seen(here.tokens_ECK[rows], here.actions_EC[rows], here.game).repeated(actions)
            held_MH = self.legal_A.repeat(len(rows))[:, None].expand(-1, AHEAD)
            found.append(imagined(model, some.context, held_MH).unflatten(0, (len(rows), actions)))
        return torch.cat(found).double().numpy()


def imagined(model: Jowa, context: Context, actions_NH: Tensor) -> Tensor:
    """Sums (N,) over H imagined steps of the means of rewards' signs."""
    world = JowaWorld(model)
    world.reset(context)
    total_N = torch.zeros(len(actions_NH))
    for actions_N in actions_NH.unbind(1):
        here = world.step(actions_N)
        assert here.expected_N is not None
        total_N += here.expected_N.float().cpu()
    return total_N


def _drawn(like: Tensor, below: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(below, like.shape, generator=draws).to(like.device)


def held_out(source: SegmentSource, looker: Looker, crossed: Crossroads, device: Device, holdout: int) -> HeldOut:
    """Of the last `holdout` episodes of a game's trajectories; half of the paths bring something."""
    data, tokens, context = source.trajectories, source.tokens_NK, looker.context
    assert tokens is not None
    starts = data.episode_starts
    kept = held_out_from(data.game, data.num_episodes, holdout)
    after = int(starts[kept])
    signs_N, draws = np.sign(data.rewards), np.random.default_rng(0)
    sums_N = np.convolve(signs_N, np.ones(AHEAD), "full")[AHEAD - 1 :]  # of this step's and the next ones'
    here = np.arange(after + context, len(signs_N) - AHEAD)
    whole = here[np.searchsorted(starts, here - context + 1, "right") == np.searchsorted(starts, here + AHEAD, "right")]
    kinds = (whole[sums_N[whole] != 0], whole[sums_N[whole] == 0])
    if min(map(len, kinds)) == 0:
        raise UsageError(f"{holdout} held-out episodes of {data.game} have no path with rewards: take more transitions")
    chosen_S = np.concatenate([draws.permutation(kind)[: PATHS // 2] for kind in kinds])
    rows_SC = chosen_S[:, None] + np.arange(1 - context, 1)
    games_S = torch.full((len(chosen_S),), game_id(data.game))
    taken = torch.as_tensor(source.actions.astype(np.int64))
    encoded_SCK = torch.as_tensor(tokens[rows_SC.ravel()].astype(np.int64)).unflatten(0, rows_SC.shape)
    before = Context(encoded_SCK, taken[rows_SC[:, :-1]], games_S)
    rest = Segmentation(starts, 8, 4, "right").table()
    unseen = replace(source, segments=rest[rest[:, 0] >= kept])
    segments = to_batch(tensors(SegmentLoader([unseen], SEGMENTS, 0, with_frames=False).batch(0))).to(device.name)
    return HeldOut(
        segments,
        Context(*(each.to(device.name) for each in (before.tokens_NCK, before.actions_NC, before.games_N))),
        taken[chosen_S[:, None] + np.arange(AHEAD)].to(device.name),
        sums_N[chosen_S],
        crossed,
        torch.as_tensor(looker.legal, device=device.name),
    )
