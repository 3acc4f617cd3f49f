"""RL Unplugged from real buckets: bit for bit what the same shards on disk give, whatever the network does; or one line
and no artefact. And from the command line to Dagster."""

import json
import re
import signal
from pathlib import Path

import dagster as dg
import pytest
import yaml

from assets.definitions import defs
from pipelines.bucket.bucket import Bucket
from pipelines.cli import run
from pipelines.errors import WorldlineError
from pipelines.sources.rlu.listing import file_name, list_objects
from pipelines.sources.source import digest
from pipelines.stages import fetch
from pipelines.stages.fetch import FetchConfig
from pipelines.store.artefact import Artefact
from pipelines.store.store import Store
from tests import fakes
from tests.buckets.faults import Fault, FaultProxy, Weather
from tests.buckets.fixtures import hashes
from tests.buckets.servers import EmulatedBucket
from tests.pipelines.sources.rlu.runs import SHARDS, write_run
from tests.pipelines.stages.helpers import make_trajectories, nothing_left

pytestmark = [pytest.mark.usefixtures("_hasty"), pytest.mark.one_bucket, pytest.mark.usefixtures("undrawn")]
SHARD = f"Pong/{file_name(1, 1, SHARDS)}"
RANGE = 20_000  # bytes: a shard of 76 kB is read in four


PROGRAM = """
import json, sys
from pathlib import Path
from pipelines.bucket import bucket_object
from pipelines.sources.rlu.source import SOURCE
from pipelines.store.profile import Profile
from pipelines.store.store import Store
from pipelines.plots import style
from tests import fakes
from tests.buckets.test_rlu import RANGE, make_both

style.save = fakes.save_empty
bucket_object.CHUNK, SOURCE.at_once = RANGE, 1
url, options, home = sys.argv[1:]
make_both(Store(Path(home), profile=Profile("child", options=json.loads(options))), url)
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("toy")
    write_run(folder / "bucket", steps=30)
    return folder / "bucket", hashes(*make_both(Store(folder / "store"), f"file://{folder / 'bucket'}"))


def make_replay(store: Store, url: str, **options) -> Artefact:
    listing = digest(list_objects(Bucket.of(url, store.profile), "Pong", 1))
    config = FetchConfig("Pong", 1, url=url, listing=listing, layout="rl_unplugged", **options)
    return fetch.run(config, store).artefact


def make_both(store: Store, url: str) -> tuple[Artefact, Artefact]:
    replay = make_replay(store, url)
    return replay, make_trajectories(store, replay)


def test_a_bucket_gives_the_same_bytes_and_each_stage_reads_a_shard_once(site) -> None:
    made = make_both(site.store(), site.bucket.root_url)
    assert hashes(*made) == site.expected and len(site.expected) >= 5
    roots = made[0].manifest.roots
    assert len(roots) == SHARDS and all(root["version"] for root in roots)
    room = (site.folder / SHARD).stat().st_size
    assert room > 3 * RANGE and 2 * room <= site.proxy.sent(SHARD) < 2.1 * room


def test_a_mirror_of_all_is_filled_before_it_is_read(site) -> None:
    store = site.store()
    replay = make_replay(store, site.bucket.root_url, mirror="all")
    assert hashes(replay, make_trajectories(store, replay)) == site.expected
    assert site.proxy.sent(SHARD) < 1.1 * (site.folder / SHARD).stat().st_size


def test_random_faults_change_nothing_but_the_time(site) -> None:
    site.proxy.weather = Weather(0.4, 1, most=1)
    assert hashes(*make_both(site.store(), site.bucket.root_url)) == site.expected
    assert site.proxy.struck() > 0


@pytest.mark.parametrize("stage", ["fetch", "downsample"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("flip", match=SHARD, skip=2),
        Fault("cut", match=SHARD, skip=2, times=2),
        Fault("reset", match=SHARD, skip=2, times=2),
        Fault("short", match=SHARD, skip=3),
        Fault("status", match=SHARD, skip=1, times=4, status=429),
        Fault("stall", match=SHARD, skip=3, seconds=4.0),
    ],
    ids=lambda fault: fault.kind,
)
def test_one_fault_ends_in_the_same_bytes(site, fault, stage) -> None:
    store = site.store()
    if stage == "fetch":
        site.proxy.add(fault)
    replay = make_replay(store, site.bucket.root_url)
    if stage == "downsample":
        site.proxy.add(fault)
    assert hashes(replay, make_trajectories(store, replay)) == site.expected
    assert site.proxy.struck(fault.kind) == fault.times


@pytest.mark.parametrize("content", ["cut", "other", "garbage"])
@pytest.mark.parametrize(("stage", "skip"), [("fetch", 2), ("downsample", 0), ("downsample", 2)])
def test_a_shard_that_is_replaced_while_it_is_read_is_one_line(site, stage, skip, content) -> None:
    right = (site.folder / SHARD).read_bytes()
    other = (site.folder / SHARD.replace("-00001-", "-00002-")).read_bytes()
    wrong = {"cut": right[: len(right) // 3], "other": other, "garbage": bytes(len(right))}[content]
    store, url = site.store(), site.bucket.root_url
    strike = Fault("pass", match=SHARD, skip=skip, act=lambda: site.bucket.put(SHARD, wrong))
    replay = make_replay(store, url) if stage == "downsample" else None
    site.proxy.clear()
    site.proxy.add(strike)
    with pytest.raises(WorldlineError) as caught:
        make_trajectories(store, replay) if replay else make_replay(store, url)
    assert "\n" not in str(caught.value) and SHARD in str(caught.value) and len(str(caught.value)) < 500
    assert nothing_left(store, "trajectories" if replay else "replay") and site.proxy.struck("pass") == 1


def test_a_bucket_that_goes_away_is_one_line_and_the_next_run_reads_the_rest(site) -> None:
    store, url = site.store(), site.bucket.root_url
    site.proxy.add(Fault("status", match=SHARD, skip=2, times=10_000))
    with pytest.raises(WorldlineError, match=re.escape(SHARD)):
        make_replay(store, url)
    held = {path.name.removesuffix(".npz").replace("@", "/") for path in store.scratch.rglob("*.npz")}
    site.proxy.clear()
    assert hashes(*make_both(store, url)) == site.expected and SHARD not in held
    for name in held:  # once more, by downsample alone
        assert site.proxy.sent(name) < 1.1 * (site.folder / name).stat().st_size


@pytest.mark.parametrize(
    "during", [pytest.param("fetch", marks=pytest.mark.slow), pytest.param("downsample", marks=pytest.mark.slow)]
)
def test_a_killed_stage_leaves_nothing_trusted_and_goes_on_by_shard(toy, gcs_bucket, tmp_path, during) -> None:
    gcs_bucket.put_folder(toy[0])
    store, name = Store(tmp_path / "store"), f"Pong/{file_name(1, 2, SHARDS)}"
    ranges = -(-(toy[0] / name).stat().st_size // RANGE)
    with FaultProxy(gcs_bucket.server.endpoint) as proxy:
        call = (PROGRAM, gcs_bucket.root_url, json.dumps(gcs_bucket.options(proxy.endpoint)), store.root)
        proxy.add(Fault("stall", match=name, skip=2 + ranges * (during == "downsample"), seconds=4.0))
        child = fakes.start(*call)
        fakes.wait_for(lambda: proxy.struck("stall") == 1)
        child.send_signal(signal.SIGKILL)
        assert fakes.finish(child)[0] != 0
        assert [artefact.ref.stage for artefact in store.artefacts()] == ["replay"] * (during == "downsample")

        proxy.clear()
        code, out, err = fakes.finish(fakes.start(*call))
        assert code == 0, out + err
        made = sorted(store.artefacts(), key=lambda artefact: artefact.ref.stage)
        assert hashes(*made) == toy[1] and all(artefact.faults(rehash=True) == [] for artefact in made)
        if during == "fetch":  # the two shards before it were done: read once more by downsample alone
            done = f"Pong/{file_name(1, 0, SHARDS)}"
            assert proxy.sent(done) < 1.1 * (toy[0] / done).stat().st_size


def _profile(bucket: EmulatedBucket, path: Path) -> Path:
    bucket.write_profile(path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"layout": "rl_unplugged"}))
    return path


def test_the_commands_plan_fetch_draw_and_probe(gcs_bucket, toy, tmp_path, monkeypatch, capsys) -> None:
    gcs_bucket.put_folder(toy[0])
    profile = str(_profile(gcs_bucket, tmp_path / "emulated.yaml"))
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    these = ["--storage", profile, "--games", "Pong", "--agents", "1"]
    assert run(["fetch", *these, "--plan"]) == 0
    plan = capsys.readouterr().out
    assert re.search(r"Pong +1 +4 +\d.* +\? +\? +\d+ s\n", plan) and "of one object came" in plan
    assert "no byte of a frame" not in plan and "known once fetch has read them" in plan
    assert not list(tmp_path.rglob("manifest.json"))
    assert run(["fetch", *these]) == 0
    assert run(["downsample", *these, "--set", "downsample.transitions=100"]) == 0
    assert run(["lineage", "trajectories/Pong", "--verify", "--storage", profile]) == 0
    capsys.readouterr()
    assert run(["fetch", *these, "--plan"]) == 0
    assert re.search(r"Pong +1 +\d +.* of \d+", capsys.readouterr().out)
    run(["doctor", "--storage", profile])
    assert "answers: Pong/1 has 4 objects" in capsys.readouterr().out
    assert run(["fetch", "--storage", profile, "--games", "Berzerk", "--agents", "1"]) == 2
    assert "RL Unplugged has no Berzerk, it has Alien, " in capsys.readouterr().err


def test_an_experiment_and_dagster_read_the_bucket_by_the_profiles_layout(
    gcs_bucket, toy, tmp_path, monkeypatch
) -> None:
    """Its replay has checks of its own; those that only logs have do not fail for it."""
    gcs_bucket.put_folder(toy[0])
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORLDLINE_STORAGE", str(_profile(gcs_bucket, tmp_path / "emulated.yaml")))
    changes = ["source=bucket", "agents=1", "games=Pong", "downsample.transitions=60"]
    sets = [part for change in changes for part in ("--set", change)]
    assert run(["experiment", "new", "mine", "--recipe", "mini", *sets]) == 0
    asked = {"recipe": "mini", "overrides": changes}
    with dg.DagsterInstance.ephemeral() as instance:
        key = dg.MultiPartitionKey({"game": "Pong", "agent": "1"})
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey("replay")],
            partition_key=key,
            instance=instance,
            run_config={"ops": {"replay": {"config": asked}}},
        )
    assert result.success
    checks = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert set(FetchConfig.CHECKS) < set(checks) and all(each.passed for each in checks.values())
    assert checks["alignment"].metadata["in_first"].value == 0
    assert checks["add_count"].description == "does not apply to what this was made from"
