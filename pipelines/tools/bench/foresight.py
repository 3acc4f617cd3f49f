"""What JOWA's world models foresee, by their size and training: `python -m pipelines.tools.bench.foresight TOKENS`.

TOKENS is an address of stored tokens (`worldline list tokens`). Fresh transformers learn from them the first stage's
objective, and are judged on the way, in episodes that they never saw: by the loss of a next token, and what random
actions in place of those taken cost it; by whether they foresee which path brings more; and by whether they foresee
which action does, held for a few steps, where the emulator says that it matters. The last is what a search needs.
Options: `--sizes 1x64,2x128` (layers x width), `--steps 500,1000` (where to judge), `--batch 8`, `--states 48`.

Shapes: B segments, T steps, H steps ahead, S states, A the game's legal actions, M = S * A rows, C steps of context.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.api import Batch, Context
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from pipelines import home
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation, open_tokens
from pipelines.environments.atari.environment import EmulatorGame
from pipelines.environments.atari.games import SCRIPTS
from pipelines.environments.registry import game_id, protocol
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.look_ahead import Looker, Seen, watched_game
from pipelines.evaluation.verdict import ranked
from pipelines.progress import track
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device, pick
from pipelines.training.inputs import held_out_from, tensors, to_batch

AHEAD = 4  # steps whose rewards are foreseen, or for which an action is held
PATHS, SEGMENTS, AT_ONCE = 400, 256, 8  # held-out paths and segments; states that are imagined at once
HEADER = (
    "| layers x width | parameters | steps | CPU min | next token, nats | cost of random actions, nats "
    "| paths ranked | actions ranked | best action found |\n|---|---|---|---|---|---|---|---|---|"
)


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


def learned(
    config: JowaAgentConfig, batches: SegmentLoader, steps: Sequence[int], device: Device, seed: int
) -> Iterator[tuple[int, Jowa]]:
    """A fresh transformer after each number of steps. Its weights are running means, as its rate does not fall."""
    torch.manual_seed(seed)  # what is dropped out
    agent = JowaAgent(config, seed)
    model = agent.model.to(device.name)
    smooth = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    rate = 5e-3 * min(1.0, 128 / config.model.width)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], rate)
    name = f"Learn {config.model.layers}x{config.model.width}"
    with track(name, max(steps), "steps") as advance:
        for step in range(max(steps)):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 50)
            batch = to_batch(tensors(batches.batch(step))).to(device.name)
            with device.autocast():
                losses = world_loss(model.train(), batch)
            optimizer.zero_grad()
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            smooth.update_parameters(model)
            advance()
            if step + 1 in steps:
                averaged = smooth.module
                assert isinstance(averaged, Jowa)
                yield step + 1, averaged


def compare(source: SegmentSource, agent: JowaAgent, options: argparse.Namespace, device: Device) -> Iterator[str]:
    """The lines of the table, as they are found."""
    length = agent.config.model.max_steps
    looker = Looker(agent, source.trajectories.game, length - AHEAD, horizon=AHEAD)
    rules = protocol("sticky")
    with torch.inference_mode(), closing(watched_game(source.trajectories.game, (options.seed + 1,), rules)) as game:
        crossed = crossroads(looker, game, options.states)
    judge = held_out(source, looker, crossed, device, options.holdout)
    yield (
        f"{len(crossed.brought_SA)} states in which it matters which action is held for {AHEAD} steps: chance finds a "
        f"best one in {crossed.chance:.2f}. {len(judge.brought_S)} held-out paths of {AHEAD} steps. Of what is ranked, "
        "0.5 is chance"
    )
    yield HEADER
    for layers, width in options.sizes:
        heads = max(2, width // 32)
        model = replace(agent.config.model, layers=layers, width=width, heads=heads, q_hidden=2 * width)
        batches = SegmentLoader([source], options.batch, options.seed, length, with_frames=False)
        began = time.process_time()
        for steps, found in learned(replace(agent.config, model=model), batches, options.steps, device, options.seed):
            minutes = (time.process_time() - began) / 60
            judged_at = time.process_time()
            loss, cost, paths, ranks, best = judge.row(found)
            count = sum(each.numel() for each in found.parameters() if each.requires_grad)
            yield (
                f"| {layers} x {width} | {count / 1e6:.2f} M | {steps:,} | {minutes:.1f} | {loss:.3f} | {cost:.4f} "
                f"| {paths:.2f} | {ranks:.2f} | {best:.2f} |"
            )
            began += time.process_time() - judged_at


def _sizes(text: str) -> list[tuple[int, int]]:
    """Of `1x64,2x128`."""
    found = [each.split("x") for each in text.split(",")]
    whole = all(len(each) == 2 and all(number.isdigit() and int(number) for number in each) for each in found)
    if not whole or any(int(width) % 32 for _, width in found):
        raise argparse.ArgumentTypeError(f"'{text}': write LAYERSxWIDTH, widths in multiples of 32, as in 1x64,2x128")
    return [(int(layers), int(width)) for layers, width in found]


def _counts(text: str) -> list[int]:
    """Of `500,1000`."""
    if not all(each.isdigit() and int(each) for each in text.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}': write whole numbers of 1 or more, as in 500,1000")
    return [int(each) for each in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="foresight", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tokens", type=Ref.parse, metavar="TOKENS", help="tokens/GAME/KEY")
    parser.add_argument("--sizes", type=_sizes, default=[(1, 64), (2, 128)])
    parser.add_argument("--steps", type=_counts, default=[500, 1000, 2000])
    parser.add_argument("--batch", type=int, default=8, help="segments a step")
    parser.add_argument("--states", type=int, default=48, help="states in which actions are compared")
    parser.add_argument("--holdout", type=int, default=8, help="episodes that are kept from training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    store, device = Store(home.home() / "store"), pick("auto")
    artefact = store.open(options.tokens)
    parents = {ref.stage: store.open(ref) for ref in (Ref.parse(each.ref) for each in artefact.manifest.parents)}
    if "trajectories" not in parents:
        raise UsageError(f"{options.tokens} is not stored tokens of trajectories: 'worldline list tokens' names some")
    agent = load_agent(next(each for stage, each in parents.items() if stage != "trajectories"), device)
    if not isinstance(agent, JowaAgent):
        raise UsageError(
            f"{options.tokens} were encoded by an agent of the family '{agent.config.family}': give JOWA's"
        )
    data = Trajectories(parents["trajectories"].source(FILE_NAME))
    with tempfile.TemporaryDirectory() as scratch:
        tokens = open_tokens([artefact], Path(scratch))[0]
        cut = Segmentation(
            data.episode_starts, agent.config.model.max_steps, agent.config.model.max_steps // 2, "right"
        )
        kept = cut.first_episodes(held_out_from(data.game, data.num_episodes, options.holdout))
        for line in compare(SegmentSource(data, kept, tokens), agent, options, device):
            print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except WorldlineError as error:
        sys.exit(str(error))
