"""One tiny run of every stage, made once for all workers by the functions that every command uses; tests only read it.

Cost: about 15 s the first time that a test of any worker asks for it.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.errors import WorldlineError
from pipelines.graph.experiment import Experiment, find, register
from pipelines.graph.make import make, make_board
from pipelines.graph.plan import Plan
from pipelines.recipes.registry import recipe
from pipelines.store.artefact import Artefact
from pipelines.store.ref import Ref
from pipelines.store.store import Store
from tests.once import made_once

# Breakout's episodes are short: a few hundred steps hold several, one of them held out.
TINY = (
    "games=Breakout",
    "collect.steps=1100",
    "collect.capacity=400",
    "downsample.transitions=600",
    "pretrain.loop.precision=float32",
    "tokenize.precision=float32",
    "train.loop.precision=float32",
    "evaluate.precision=float32",
    "evaluate.max_steps=30",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@dataclass(frozen=True)
class TinyRun:
    """Home, store, what was asked for, and each stage's artefact."""

    home: Path
    store: Store
    experiment: Experiment
    plan: Plan
    made: dict[str, Artefact]

    def copy(self, home: Path) -> "TinyRun":
        """The same in another folder, for tests that change or damage something."""
        shutil.copytree(self.home, home)
        store = Store(home / "store")
        found = {stage: store.open(artefact.ref) for stage, artefact in self.made.items()}
        return TinyRun(home, store, self.experiment, self.plan, found)


def _make_tiny(folder: Path) -> None:
    """Every stage of the run, and a list of what was made."""
    import torch

    torch.set_num_threads(1)
    home = folder / "home"
    store = Store(home / "store")
    experiment = register(home / "experiments", "tiny", recipe("mini", TINY))
    plan = Plan(experiment.recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDLINE_QUIET", "1")
        made = {step.stage: make(plan, step, store, experiment).artefact for step in plan.steps()}
        made["leaderboard"] = make_board(store).artefact
    refs = {stage: (artefact.ref.stage, artefact.ref.subject, artefact.ref.key) for stage, artefact in made.items()}
    (folder / "made.json").write_text(json.dumps(refs))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The run; do not change anything in it. Each worker has a copy, so that one's locks are no other's."""
    made = made_once(tmp_path_factory, "tiny-made", _make_tiny)
    home = shutil.copytree(made / "home", tmp_path_factory.mktemp("tiny") / "home")
    store, experiment = Store(home / "store"), find(home / "experiments", "tiny")
    refs = json.loads((made / "made.json").read_text())
    found = {stage: store.open(Ref(*ref)) for stage, ref in refs.items()}
    return TinyRun(home, store, experiment, Plan(experiment.recipe), found)


@pytest.fixture
def tiny_copy(tiny: TinyRun, tmp_path: Path) -> TinyRun:
    """A copy of the run that a test may change."""
    return tiny.copy(tmp_path / "home")


@pytest.fixture(scope="session")
def metaworld_here() -> str:
    """What draws Meta-world's frames here; skips where its package or an OpenGL is missing."""
    from pipelines.environments.metaworld.rendering import drawn_by

    try:
        found = drawn_by()
        __import__("metaworld")
    except (ImportError, WorldlineError) as error:
        pytest.skip(f"Meta-world cannot be played here: {error}")
    return found
