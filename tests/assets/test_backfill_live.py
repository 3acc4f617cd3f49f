"""A backfill that a person starts in Dagster's UI makes what `worldline backfill` makes.

One `worldline ui` with its daemon, and the request that the UI's page sends: assets, partitions, tags.
"""

from pathlib import Path

import dagster as dg
import pytest

from assets.instance import open_instance
from assets.launch import main
from assets.step import EXPERIMENT
from pipelines.graph.experiment import register
from pipelines.home import home, open_store
from pipelines.recipes.registry import recipe
from tests.assets.served import ask, free_port, ui
from tests.fakes import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

GAMES = ["MsPacman", "Breakout"]
SMALL = ["collect.steps=2600", "collect.capacity=500", "downsample.transitions=300", f"games={','.join(GAMES)}"]
LAUNCH = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "set by open_instance")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)


def contents() -> dict[str, dict[str, str]]:
    """The hash of every file of every artefact, by address; each file is read for it."""
    found = list(open_store().artefacts())
    assert not [fault for each in found for fault in each.faults(rehash=True)]
    return {str(each.ref): {entry.path: entry.sha256 for entry in each.manifest.files} for each in found}


def test_a_backfill_of_the_ui_makes_what_the_command_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = register(home() / "experiments", "mine", recipe("mini", SMALL))
    assert main(["backfill", "--experiment", experiment.key, "--games", ",".join(GAMES), "--until", "segments"]) == 0
    here = contents()
    assert {name.split("/")[0] for name in here} == {"collected_replay", "replay", "trajectories", "segments"}

    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "by the ui"))
    register(home() / "experiments", "mine", experiment.recipe)
    assert main(["pools", "disk=1"]) == 0
    port, log = free_port(), tmp_path / "log"
    with open_instance() as instance, ui(log, port):
        for stages, keys in (
            (["collected_replay"], GAMES),
            (["replay"], [f"1|{game}" for game in GAMES]),
            (["trajectories", "segments"], GAMES),
        ):
            params = {
                "assetSelection": [{"path": [stage]} for stage in stages],
                "partitionNames": keys,
                "tags": [{"key": EXPERIMENT, "value": experiment.key}],
            }
            stored = ask(port, LAUNCH, params=params)["data"]["launchPartitionBackfill"]
            assert stored["__typename"] == "LaunchBackfillSuccess", stored
            wait_for(lambda stored=stored: _ended(instance, stored["backfillId"]), 600)  # type: ignore[misc]
            runs = list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": stored["backfillId"]})))
            assert len(runs) == len(GAMES) and all(run.is_success for run in runs), log.read_text()[-3000:]
        first, second = sorted(
            (record.start_time, record.end_time)
            for record in instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": stored["backfillId"]}))
        )
        assert first[1] <= second[0], "their pool admits one at a time"
    assert contents() == here


def _ended(instance: dg.DagsterInstance, backfill: str) -> bool:
    found = instance.get_backfill(backfill)
    return found is not None and found.status.value not in ("REQUESTED", "CANCELING", "FAILING")
