"""Every stage is really killed in its middle: nothing is half trusted, and the next run completes."""

import json
import signal
from pathlib import Path

import pytest

from pipelines.graph.experiment import register
from pipelines.graph.plan import Plan
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from tests import fakes
from tests.pipelines.conftest import TINY

pytestmark = pytest.mark.slow

# Each run is a fork of a process that has imported everything and computed nothing: real kills without the imports.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import torch
from pipelines.stages import collect, downsample, evaluate, fetch, report, segment, tokenize, train
from pipelines.graph.make import make_board
from pipelines.graph.experiment import find
from pipelines.graph.plan import Plan
from pipelines.graph.make import make
from pipelines.store.artefact import Draft
from pipelines.store.store import Store

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def forked(work, fatal=None):
    child = os.fork()
    if child == 0:
        if fatal:
            setattr(Draft, fatal, die)
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]

home = Path(sys.argv[1])
store, experiment = Store(home / "store"), find(home / "experiments", "tiny")
plan = Plan(experiment.recipe)
works = {step.stage: lambda step=step: make(plan, step, store, experiment) for step in plan.steps()}
works["leaderboard"] = lambda: make_board(store)
for stage, work in works.items():
    killed = forked(work, "check" if stage != "tokens" else "files")  # tokens record no check
    trusted = [artefact.ref.stage for artefact in store.artefacts()]
    left = len(list((store.root / ".partial").glob(f"{stage}@*")))
    print(json.dumps([stage, killed, stage in trusted, left, forked(work)]))
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list]]:
    """What the program says of each stage, and the home it worked in."""
    home = tmp_path_factory.mktemp("killed")
    register(home / "experiments", "tiny", recipe("mini", TINY))
    code, out, err = fakes.finish(fakes.start(PROGRAM, home), timeout=200)
    assert code == 0, err
    return home, [json.loads(line) for line in out.splitlines()]


def test_a_killed_stage_is_not_trusted_and_runs_again(lines: tuple[Path, list[list]]) -> None:
    _, rows = lines
    assert [row[0] for row in rows] == [*Plan(recipe("mini")).stages, "leaderboard"]
    for stage, killed, trusted, left, again in rows:
        assert killed == signal.SIGKILL, stage
        assert not trusted, stage
        assert left == 1, stage  # a private folder that nobody reads and the next run sweeps away
        assert again == 0, stage


def test_what_was_made_in_the_end_is_whole(lines: tuple[Path, list[list]]) -> None:
    home, _ = lines
    store = Store(home / "store")
    found = list(store.artefacts())
    assert sorted(artefact.ref.stage for artefact in found) == sorted([*Plan(recipe("mini")).stages, "leaderboard"])
    assert all(artefact.faults(rehash=True) == [] for artefact in found)
    assert list((store.root / ".partial").iterdir()) == []
    assert list(store.scratch.iterdir()) == []
