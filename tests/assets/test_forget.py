"""Old runs leave the history with all that they wrote there; what an asset's partition came from stays."""

from pathlib import Path

import dagster as dg
import pytest

from assets import forget
from assets.instance import open_instance
from assets.launch import main
from pipelines.home import dagster_home


@pytest.fixture(autouse=True)
def _home(ready_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget, "PAGE", 1)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["Pong", "Qbert"]))
def made(context: dg.AssetExecutionContext) -> None:
    if context.has_tag("fails"):
        raise dg.Failure("as asked", allow_retries=False)


def test_runs_that_nothing_stands_on_go_with_their_files_and_the_newest_of_each_partition_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(game: str, **tags: str) -> str:
        return dg.materialize(
            [made], partition_key=game, tags=tags, instance=instance, raise_on_error=False
        ).run_id  # fmt: skip

    def files() -> set[str]:
        return {each for each in ids if list(dagster_home().rglob(f"*{each}*"))}

    with open_instance() as instance:
        replaced, other, failed, newest = run("Pong"), run("Qbert"), run("Pong", fails="yes"), run("Pong")
        ids = {replaced, other, failed, newest}
        waits = instance.create_run_for_job(dg.Definitions(assets=[made]).resolve_implicit_global_asset_job_def())
        assert forget.old_runs(instance, days=1) == []
        assert {*forget.old_runs(instance, days=0)} == {replaced, failed}
        assert main(["forget", "--days", "0"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "2 runs of 5 would be forgotten (add --yes)."
        assert files() == ids
        assert main(["forget", "--days", "0", "--yes"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "2 runs of 5 forgotten."
        assert files() == {other, newest}
        assert {each.run_id for each in instance.get_runs()} == {other, newest, waits.run_id}
        assert instance.get_materialized_partitions(made.key) == {"Pong", "Qbert"}
        assert main(["forget", "--days", "0", "--yes"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "0 runs of 3 forgotten."
