"""Where state lives: argument, environment, default, in this order."""

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.home import current_profile, dagster_home, home, open_store
from pipelines.store.profile import Profile


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WORLDLINE_HOME", "WORLDLINE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_home_is_in_the_working_directory_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert home() == tmp_path / ".worldline" and dagster_home() == tmp_path / ".worldline" / "dagster"
    monkeypatch.setenv("WORLDLINE_HOME", "elsewhere")
    assert home() == tmp_path / "elsewhere"
    monkeypatch.setenv("WORLDLINE_HOME", "~/w")
    assert home() == Path.home() / "w"
    assert list(tmp_path.iterdir()) == []  # asking makes nothing


def test_below_a_project_its_home_is_found_and_named_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "")
    below = tmp_path / "project" / "notebooks" / "mine"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    (tmp_path / "project" / "notebooks" / ".worldline").mkdir()  # an empty folder is nobody's home
    assert home() == below / ".worldline" and capsys.readouterr().err == ""
    (tmp_path / "project" / ".worldline" / "experiments").mkdir(parents=True)
    assert home() == home() == tmp_path / "project" / ".worldline"
    assert capsys.readouterr().err.count(f"The home is {tmp_path}/project/.worldline, in a folder above") == 1
    monkeypatch.setenv("HOME", str(tmp_path / "project"))
    assert home() == below / ".worldline"  # a user's own folder is above everything
    (below / ".worldline").mkdir()
    monkeypatch.delenv("HOME")
    assert home() == below / ".worldline"


def test_the_profile_is_the_argument_then_the_environment_then_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current_profile().name == "local"
    monkeypatch.setenv("WORLDLINE_STORAGE", "ci")
    assert current_profile().name == "ci" and current_profile("local").name == "local"
    monkeypatch.setenv("WORLDLINE_STORAGE", "cii")
    with pytest.raises(UsageError, match="did you mean 'ci'"):
        current_profile()


def test_the_store_follows_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store().root == tmp_path / ".worldline" / "store"
    store = open_store(Profile("x", artefact_root=str(tmp_path / "a"), scratch=str(tmp_path / "s")))
    assert store.root == tmp_path / "a" and store.scratch.is_relative_to(tmp_path / "s")
    far = open_store(Profile("x", artefact_root="gs://bucket/store", options={"token": "anon"}))
    assert far.where == "gs://bucket/store" and far.root.parent == tmp_path / ".worldline"
    monkeypatch.setenv("WORLDLINE_STORAGE", "ci")
    monkeypatch.setenv("CI_CACHE_DIR", str(tmp_path / "cache"))
    assert open_store().root == tmp_path / "cache" / "store"


def test_a_home_whose_name_is_no_text_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "caf\udce9"))
    for ask in (home, dagster_home, open_store):
        with pytest.raises(UsageError, match=r"caf\\udce9' is no text in this machine's encoding .*: choose another"):
            ask()
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "caf\xe9"))
    assert open_store().root == tmp_path / "caf\xe9" / "store"
