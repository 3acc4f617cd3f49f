"""`ingest` and `learn` leave what the commands leave: the same artefacts, the same events of the same partitions."""

import re
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import defs
from assets.instance import open_instance
from assets.launch import main
from assets.resources import Installation
from tests.assets.test_verify import failure
from tests.fakes import ROOT
from tests.pipelines.conftest import TinyRun, tiny, tiny_copy  # noqa: F401 -- fixtures

OPS = {"ingest": "ingest_games", "learn": "learn_experiment"}
SMALL = ["collect.steps=2600", "collect.capacity=500", "downsample.transitions=300"]


@pytest.fixture(autouse=True)
def _home(ready_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(instance: dg.DagsterInstance, job: str, **config: object) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config={"ops": {OPS[job]: {"config": config}}}, raise_on_error=False
    )


def made(instance: dg.DagsterInstance, stage: str) -> list[str | None]:
    """The partitions of an asset's events."""
    return [each.partition_key for each in instance.fetch_materializations(dg.AssetKey(stage), limit=99).records]


def steps(done: dg.ExecuteInProcessResult) -> str:
    [output] = [each for each in done.all_node_events if each.is_successful_output]
    return str(output.step_output_data.metadata["steps"].value)


def test_bad_config_is_one_line() -> None:
    with open_instance() as instance:
        for job, config, said in (
            ("ingest", {"games": ["Pongg"]}, "did you mean 'Pong'?"),
            ("ingest", {"games": ["Pong"], "recipe": "nimi"}, "Unknown recipe 'nimi'"),
            ("ingest", {"experiment": "nobody"}, "Unknown experiment 'nobody'"),
            ("ingest", {"experiment": "x", "overrides": ["seed=1"]}, "Experiment 'x' is frozen"),
            ("ingest", {"games": ["Pong"], "recipe": "iris"}, "Recipe 'iris' has no stage of data"),
            ("ingest", {"recipe": "mini", "side_by_side": 0}, "side_by_side is 0: give at least 1 process"),
            ("learn", {"experiment": "nobody"}, "Unknown experiment 'nobody'"),
        ):
            [line] = failure(run(instance, job, **config)).splitlines()
            assert said in line


@pytest.mark.slow  # processes of their own for each lane
@pytest.mark.timeout(600)
def test_ingest_makes_what_a_backfill_then_finds(capsys: pytest.CaptureFixture[str]) -> None:
    with open_instance() as instance:
        done = run(instance, "ingest", games=["pong", "Qbert"], recipe="mini", overrides=SMALL)
        assert done.success and steps(done) == "8 made, 0 already there."
        assert set(made(instance, "trajectories")) == set(made(instance, "segments")) == {"Pong", "Qbert"}
        every = Installation().store().artefacts()
        [qbert] = [each for each in every if str(each.ref).startswith("trajectories/Qbert/")]
        qbert.path("trajectories.h5").unlink()
        [line] = failure(run(instance, "ingest", games=["Pong", "Qbert"], recipe="mini", overrides=SMALL)).splitlines()
        assert line.startswith(f"trajectories/Qbert failed: {qbert.ref} is damaged: ")
    changes = [text for change in SMALL for text in ("--set", change)]
    assert main(["backfill", "--recipe", "mini", "--games", "Pong", "--until", "segments", *changes]) == 0
    assert capsys.readouterr().out.endswith("Everything was already there.\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_learn_makes_what_an_experiment_lacks_up_to_its_checkpoint(
    tiny_copy: TinyRun,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    key, agent = tiny_copy.experiment.key, tiny_copy.made["world_action_model"]
    tiny_copy.store.remove(agent)
    with open_instance() as instance:
        done = run(instance, "learn", experiment="tiny")
        assert done.success and re.fullmatch(r"1 made, \d already there\.", steps(done))
        assert tiny_copy.store.find(agent.ref) is not None
        assert made(instance, "pretrained") == made(instance, "world_action_model") == [key]
        assert made(instance, "tokens") == [f"{key}|Breakout"] and made(instance, "scores") == []
