"""A program: the toy family learns by draws that remember, as one process or as torchrun's ranks, and tells its draws.

Run: `torchrun --nproc-per-node 2 -m tests.pipelines.training.toy_learn FOLDER`. Leaves FOLDER/drawn-RANK.jsonl, a line
a row of each batch: objective, step, place in the whole batch, and the hash of its frames.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.api import Batch, Losses, Moment
from models.registry import FAMILIES
from pipelines.batches.memory import Draws
from pipelines.stages import learn
from pipelines.store.store import Store
from pipelines.training.distributed.ranks import join
from tests.models.toy_family.agent import ToyAgent
from tests.models.toy_family.family import TOY
from tests.pipelines.stages.test_learn import config


def main(folder: Path) -> None:
    """Learn in a store of `folder`."""
    FAMILIES[TOY.name] = TOY
    folder.mkdir(exist_ok=True)
    real, told = ToyAgent.loss, folder / f"drawn-{join().rank}.jsonl"

    def loss(self: ToyAgent, objective: str, batch: Batch, counts: Any, moment: Moment) -> Losses:
        assert batch.frames_BTCHW is not None
        with told.open("a") as file:
            for row, frames in enumerate(batch.frames_BTCHW):
                seen = hashlib.sha256(frames.numpy().tobytes()).hexdigest()[:16]
                file.write(json.dumps([objective, moment.step, moment.first + row, seen]) + "\n")
        return real(self, objective, batch, counts, moment)

    ToyAgent.loss = loss  # type: ignore[method-assign]
    world, actor = config().uses
    uses = (replace(world, sampling="losses"), replace(actor, sampling="counts"))
    learn.run(config(uses=uses, draws=Draws(power=3.0, share=0.5)), Store(folder / "store"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
