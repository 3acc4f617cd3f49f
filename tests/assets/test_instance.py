"""A fresh Dagster home survives several processes that open it at the same time."""

from pathlib import Path

import pytest
import yaml

from assets.instance import READY, open_instance, prepare, template
from pipelines.errors import WorldlineError
from pipelines.home import dagster_home
from tests.fakes import finish, start

OPEN = """
from assets.instance import open_instance
with open_instance() as instance:
    instance.add_dynamic_partitions("experiment", ["demo-1a2b3c4d"])
    print(instance.get_runs_count(), instance.telemetry_enabled)
"""

pytestmark = pytest.mark.usefixtures("fresh_home")


@pytest.mark.slow
def test_three_processes_open_a_fresh_home_at_once() -> None:
    ends = [finish(process, 300) for process in [start(OPEN) for _ in range(3)]]  # a crowded machine is no failure
    assert [(code, out.strip()) for code, out, _ in ends] == [(0, "0 False")] * 3, ends
    with open_instance() as instance:
        assert list(instance.get_dynamic_partitions("experiment")) == ["demo-1a2b3c4d"]
        assert Path(instance.root_directory) == dagster_home()


@pytest.mark.usefixtures("ready_home")
@pytest.mark.parametrize("content", [b"hello", b"\xff\xfe", b"a: [1", b"storage: {nope: 1}"])
def test_settings_that_dagster_does_not_understand_are_one_line_and_deleting_them_is_a_repair(content: bytes) -> None:
    settings = dagster_home() / "dagster.yaml"
    with open_instance():
        settings.write_bytes(content)
    with pytest.raises(
        WorldlineError, match=r"dagster\.yaml is no settings of Dagster .*: mend it, or delete it"
    ) as caught:
        open_instance()
    assert "\n" not in str(caught.value) and settings.read_bytes() == content
    settings.unlink()
    with open_instance():
        assert settings.read_text() == template()


def test_the_users_own_dagster_yaml_stays() -> None:
    folder = dagster_home()
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    prepare(folder)
    assert (folder / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    assert (folder / READY).exists()


def test_a_set_up_that_was_interrupted_is_finished() -> None:
    folder = dagster_home()
    folder.mkdir(parents=True)
    (folder / "dagster.yaml.partial").write_text("telem")
    prepare(folder)
    assert (folder / "dagster.yaml").read_text() == template()


def test_the_template_turns_telemetry_off_and_limits_the_pools() -> None:
    data = yaml.safe_load(template())
    assert data["telemetry"] == {"enabled": False}
    assert data["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}


def test_a_home_below_a_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "file"))
    with pytest.raises(WorldlineError, match="not writable") as caught:
        open_instance()
    assert "\n" not in str(caught.value)
