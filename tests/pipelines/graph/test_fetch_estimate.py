"""`fetch --plan` foresees exactly what is then downloaded, reads no byte of a frame and commits nothing."""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.bucket import bucket_object as rate
from pipelines.bucket.bucket import Bucket
from pipelines.bucket.bucket_object import Mirror
from pipelines.cli import run
from pipelines.episodes.trajectories import FILE_NAME, Trajectories
from pipelines.errors import WorldlineError
from pipelines.graph.fetch_estimate import Prospect, Share, prospect
from pipelines.graph.make import make
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.store.store import Store
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.sources.dqn_replay.toy import write_replay

CHANGES = ("source=bucket", "agents=1,2", "downsample.transitions=60")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects of which a byte was asked for over the network, one for each request."""
    names: list[str] = []
    real = Bucket.read_range

    def read_range(self, item, *where, **more):
        names.append(item.name)
        return real(self, item, *where, **more)

    monkeypatch.setattr(Bucket, "read_range", read_range)
    return names


@pytest.fixture
def gcs(gcs_bucket: EmulatedBucket, tmp_path: Path) -> EmulatedBucket:
    """Two agents' replay of Pong in a gs:// bucket."""
    for agent in (1, 2):
        write_replay(tmp_path / "toy", [13, 29, 5, 61, 13, 40], 53, agent=agent, seed=agent, game="Pong", actions=6)
    gcs_bucket.put_folder(tmp_path / "toy")
    return gcs_bucket


def plan_of(bucket: EmulatedBucket, *changes: str) -> Plan:
    return Plan(recipe("mini", [*CHANGES, *changes]), bucket.root_url, bucket.profile())


def frames_of(names: list[str]) -> set[str]:
    return {name for name in names if "observation" in name}


def test_it_foresees_what_downsample_reads_and_reads_no_frame(gcs, tmp_path: Path, asked: list[str]) -> None:
    store, plan = Store(tmp_path / "store", profile=gcs.profile()), plan_of(gcs)
    found = prospect(plan, store)
    assert asked and not frames_of(asked) and found.rate
    assert not list(store.root.rglob("manifest.json"))
    asked.clear()
    for agent in (1, 2):
        make(plan, Step("replay", "Pong", agent), store)
    assert not [name for name in asked if "observation" not in name], "the small arrays were mirrored by the plan"
    asked.clear()
    made = make(plan, Step("trajectories", "Pong"), store).artefact
    drawn = Trajectories(made.path(FILE_NAME))
    agents = drawn.source_rows(0, len(drawn))[:, 0]
    for share in found.shares:
        read = {name for name in frames_of(asked) if name.startswith(f"Pong/{share.agent}/")}
        assert (share.objects, share.transitions) == (len(read), int((agents == share.agent).sum()))
        assert share.bytes == sum((tmp_path / "toy" / name).stat().st_size for name in read) and not share.mirrored
    assert sum(share.episodes for share in found.shares) == drawn.num_episodes
    asked.clear()
    again = prospect(plan, store)  # now from the replays that were fetched
    assert again.shares == found.shares and not asked


def test_the_rate_is_measured_where_the_small_arrays_are_here_already(gcs, tmp_path, asked, monkeypatch) -> None:
    store, plan = Store(tmp_path / "store", profile=gcs.profile()), plan_of(gcs)
    first = prospect(plan, store)
    asked.clear()
    monkeypatch.setattr(rate, "_THROUGHPUTS", {})  # as in the next process
    again = prospect(plan, store)
    assert again.shares == first.shares and again.rate and again.seconds(again.shares)
    assert len(asked) == 1 and not frames_of(asked)


@pytest.mark.slow
def test_a_mirror_of_all_leaves_nothing_to_download(gcs, tmp_path: Path, asked: list[str]) -> None:
    store, plan = Store(tmp_path / "store", profile=gcs.profile()), plan_of(gcs, "fetch.mirror=all")
    for agent in (1, 2):
        make(plan, Step("replay", "Pong", agent), store)
    found = prospect(plan, store)
    assert all(share.mirrored == share.bytes for share in found.shares)
    assert found.seconds(found.shares) == 0
    asked.clear()
    mirrored = make(plan, Step("trajectories", "Pong"), store).artefact
    assert not asked
    other, streaming = Store(tmp_path / "elsewhere" / "store", profile=gcs.profile()), plan_of(gcs, "fetch.mirror=none")
    for agent in (1, 2):
        make(streaming, Step("replay", "Pong", agent), other)
    streamed = make(streaming, Step("trajectories", "Pong"), other).artefact
    assert streamed.ref == mirrored.ref and streamed.manifest.files == mirrored.manifest.files
    mirror = Mirror.of(gcs.root_url, other)
    assert mirror is not None and not mirror.folder.exists()


def test_what_was_never_collected_cannot_be_planned(tmp_path: Path) -> None:
    with pytest.raises(WorldlineError, match=r"Pong was not collected yet.*worldline collect --games Pong"):
        prospect(Plan(recipe("mini")), Store(tmp_path))


def test_sums_and_times() -> None:
    shares = (Share("Pong", 1, 2, 30, 10, 4, 50, 60), Share("Pong", 2, 1, 20, 0, 1, 9, 60))
    plain = Prospect(shares, 4.0).to_plain()
    assert plain["total"] == {
        "objects": 3, "bytes": 50, "mirrored": 10, "episodes": 5, "transitions": 59, "of_transitions": 120,
        "seconds": 10.0,
    }  # fmt: skip
    assert [row["seconds"] for row in plain["shares"]] == [5.0, 5.0]
    assert Prospect(shares, None).to_plain()["total"]["seconds"] is None
    assert Prospect((Share("Pong", 1, 2, 30, 30, 4, 50, 60),), None).to_plain()["total"]["seconds"] == 0


def test_the_command_plans_fetches_and_mirrors(gcs, tmp_path: Path, monkeypatch, capsys, asked: list[str]) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    profile = gcs.profile()
    options = {"replay_root": profile.replay_root, "options": dict(profile.options)}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(options))
    which = ["--storage", str(tmp_path / "mine.yaml"), "--games", "Pong", "--agents", "1,2"]
    assert run(["fetch", *which, "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["game", "agent", "objects", "size", "here", "episodes", "transitions", "time"]
    assert [line.split()[0] for line in lines[1:4]] == ["Pong", "Pong", "total"] and "B/s" in lines[4]
    assert run(["fetch", *which, "--plan", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["shares"]
    assert [(row["game"], row["agent"]) for row in rows] == [("Pong", 1), ("Pong", 2)]
    assert not frames_of(asked)
    assert run(["fetch", *which]) == 0
    asked.clear()
    assert run(["fetch", *which, "--mirror", "all"]) == 0  # the replays stand, their frames come all the same
    assert len(frames_of(asked)) == len(list((tmp_path / "toy").rglob("*observation*")))
    asked.clear()
    assert run(["downsample", *which, "--set", "downsample.fraction=0.5"]) == 0
    assert not asked
    capsys.readouterr()
    for wrong, words in (
        (["--mirror", "some"], "fetch.mirror=some': did you mean 'none'? choose from all, small, none"),
        (["--json"], "--json prints a plan: add --plan"),
        (["--set", "fetch.url=gs://x"], "has no effect"),
    ):
        assert run(["fetch", *which, *wrong]) == 2
        assert words in capsys.readouterr().err
