"""A program: all training stages on a toy game, through their real doors, as one process or as torchrun's ranks.

Run: `torchrun --nproc-per-node 2 -m tests.pipelines.training.toy_run FOLDER '{"codebook": "ema"}'`.
"""

import hashlib
import json
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from models.api import Losses
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.tokenizers.config import TokenizerConfig
from pipelines.batches.shards import ShardSet
from pipelines.errors import WorldlineError
from pipelines.stages import import_trajectories, tokenize, train
from pipelines.stages.import_trajectories import ShardsConfig
from pipelines.stages.tokenize import TokenizeConfig
from pipelines.stages.train import FinetuneConfig, PretrainConfig, TrainConfig
from pipelines.store.artefact import Artefact
from pipelines.store.profile import Profile
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from pipelines.training import state
from pipelines.training.distributed.ranks import join
from pipelines.training.schedule import ImagineConfig, LoopConfig, Phase, Use
from pipelines.training.task import Task
from tests.pipelines.training.toy_game import GAME, make_game

TOKENIZER = TokenizerConfig(vocab_size=16, embed_dim=8, z_channels=8, channels=4, res_blocks=1, attention=False)
EMA = replace(TOKENIZER, quantizer="ema", kmeans_start=True, revive_below=0.1)
MODEL = JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=16, dropout=0.0, q_dropout=0.0)
LOOP = LoopConfig(precision="float32", log_every=1, preload_bytes=1 << 20)


def configs(store: Store, options: dict) -> tuple[PretrainConfig, TrainConfig, TokenizeConfig, FinetuneConfig]:
    """What is trained; `options`: codebook, accumulate, dropout, loop (fields of LoopConfig), stage (that has it),
    dream_every (steps between searches), shards (the URL that the first two stages learn from instead)."""
    data, cut = make_game(store, 9, 33, 3, 20, 40, 12)
    accumulate = options.get("accumulate", 1)
    eyes, world, action = Use("tokenizer", 7, 1e-3), Use("world", 5, 1e-3), Use("world_action", 5, 1e-3, target_every=5)
    loop = replace(LOOP, **options.get("loop", {}))
    model = replace(MODEL, dropout=options.get("dropout", 0.0))
    first = PretrainConfig(
        name="toy",
        games=(GAME,),
        phases=(
            Phase("both", 8, (eyes, world), accumulate=accumulate),
            Phase("world", 4, (world,), accumulate=accumulate),
        ),
        loop=loop if options.get("stage") != "train" else LOOP,
        sight_frames=4,
        trajectories=(data.ref,),
        segments=(cut.ref,),
        networks=JowaAgentConfig(
            tokenizer=EMA if options.get("codebook") == "ema" else TOKENIZER,
            model=model,
            motion_gain=2.0,
            random_shift=2,
        ),
    )
    second = TrainConfig(
        name="toy",
        games=(GAME,),
        phases=(Phase("q", 12, (action,), accumulate=accumulate),),
        loop=loop,
        sight_frames=4,
        segments=(cut.ref,),
        trajectories=(data.ref,),
    )
    tokens = TokenizeConfig(game=GAME, trajectories=data.ref, precision="float32")
    third = FinetuneConfig(
        game=GAME,
        episodes=3,
        phases=(Phase("expert", 12, (eyes, action), accumulate=accumulate),),
        # The first search sees the same bits on any number of ranks; later, rounding may tip it to another action.
        imagine=ImagineConfig(after=0, segments=2, every=options.get("dream_every", 100), capacity=4),
        loop=loop if options.get("stage") != "train" else LOOP,
        sight_frames=4,
        trajectories=data.ref,
    )
    return first, second, tokens, third


def from_shards(folder: Path, options: dict) -> dict[str, Artefact]:
    """Train the first two stages in a store of `folder` on shards, which are imported first unless they were."""
    store = Store(folder, profile=Profile(**options["profile"]) if "profile" in options else None)
    first, second, _, _ = configs(Store(folder.parent / f"{folder.name}-made-{join().rank}"), options)
    listed = [each for each in store.artefacts() if each.ref.stage == ShardsConfig.STAGE]
    if not listed and join().first:
        raw = ShardSet(options["shards"], store.profile).raw
        config = ShardsConfig(game=GAME, sha256=hashlib.sha256(raw).hexdigest(), url=options["shards"])
        listed = [import_trajectories.run(config, store).artefact]
    if join().first:
        join().tell("made", str(listed[0].ref))
    shards = (listed[0].ref if join().first else Ref.parse(join().hear("made")),)
    first = replace(first, trajectories=(), segments=(), shards=shards)
    pretrained = train.run(first, store).artefact
    if options.get("stage") == "pretrain":
        return {"pretrained": pretrained}
    second = replace(second, trajectories=(), segments=(), shards=shards, agent=pretrained.ref)
    return {"pretrained": pretrained, "trained": train.run(second, store).artefact}


def run(folder: Path, options: dict) -> dict[str, Artefact]:
    """Train all stages in a store of `folder`; from shards, the first two alone."""
    if "shards" in options:
        return from_shards(folder, options)
    store = Store(folder)
    if join().first:
        configs(store, options)
        join().tell("made", "")
    else:
        join().hear("made")
    first, second, tokens, third = configs(store, options)
    pretrained = train.run(first, store).artefact
    if options.get("stage") == "pretrain":
        return {"pretrained": pretrained}
    encoded = tokenize.run(replace(tokens, agent=pretrained.ref), store).artefact
    trained = train.run(replace(second, agent=pretrained.ref, tokens=(encoded.ref,)), store).artefact
    tuned = train.run(replace(third, agent=trained.ref), store).artefact
    return {"pretrained": pretrained, "trained": trained, "finetuned": tuned}


def _kill_after(step: int, rank: int, stage: str) -> None:
    """Kill a rank for good as soon as the stage's state of `step` is on disk."""
    save = state.save

    def save_and_die(folder: Path, position: state.Position, *rest: object) -> None:
        save(folder, position, *rest)  # type: ignore[arg-type]
        if position.step == step and join().rank == rank and folder.name.startswith(stage):
            os.kill(os.getpid(), signal.SIGKILL)

    state.save = save_and_die  # type: ignore[assignment]


def _break(rank: int, step: int, how: str) -> None:
    """Let one rank fail alone in a step: with an error of its own, or by a loss that is no number."""
    losses = Task.losses

    def broken(task: Task, phase: Phase, at: int, part: int = 0) -> dict[str, Losses]:
        found = losses(task, phase, at, part)
        if (join().rank, at) == (rank, step):
            if how == "error":
                raise WorldlineError("The disk of this rank is gone")
            found["world"] = replace(found["world"], total=found["world"].total * math.nan)
        return found

    Task.losses = broken  # type: ignore[method-assign]


def main() -> None:
    """Exit code 1 and one line for an error, as on the command line."""
    torch.set_num_threads(1)
    options = json.loads(sys.argv[2])
    if "kill" in options:
        _kill_after(*options["kill"])
    if "break" in options:
        _break(*options["break"])
    try:
        run(Path(sys.argv[1]), options)
    except WorldlineError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
