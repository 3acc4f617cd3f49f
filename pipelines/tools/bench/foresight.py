"""What JOWA's world models foresee, by their size and training: `python -m pipelines.tools.bench.foresight TOKENS`.

TOKENS is an address of stored tokens (`worldline list tokens`). Fresh transformers learn from them the first stage's
objective, and are judged on the way, in episodes that they never saw: by the loss of a next token, and what random
actions in place of those taken cost it; by whether they foresee which path brings more; and by whether they foresee
which action does, held for a few steps, where the emulator says that it matters. The last is what a search needs.
Options: `--sizes 1x64,2x128` (layers x width), `--steps 500,1000` (where to judge), `--batch 8`, `--states 48`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.jowa.loss import world_loss
from models.jowa.model import Jowa
from pipelines import home
from pipelines.batches.loader import SegmentLoader, SegmentSource
from pipelines.batches.segments import Segmentation, open_tokens
from pipelines.environments.registry import protocol
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import UsageError, WorldlineError
from pipelines.evaluation.look_ahead import Looker, watched_game
from pipelines.progress import track
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.tools.bench.foresight_judge import AHEAD, crossroads, held_out
from pipelines.training.checkpoints import load_agent
from pipelines.training.device import Device, pick
from pipelines.training.inputs import held_out_from, tensors, to_batch

HEADER = (
    "| layers x width | parameters | steps | CPU min | next token, nats | cost of random actions, nats "
    "| paths ranked | actions ranked | best action found |\n|---|---|---|---|---|---|---|---|---|"
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
