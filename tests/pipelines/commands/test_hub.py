"""A checkpoint goes out of one home and comes into another, which verifies it; what was tampered with is one line."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from pipelines import home
from pipelines.cli import run
from pipelines.store.files import SUMS, listing
from pipelines.store.manifest import MANIFEST_NAME
from pipelines.store.store import Store
from pipelines.training.hub_folder import ABOUT, CARD, MOST_TEXT
from tests.fakes import flip_byte
from tests.pipelines.conftest import TinyRun


@pytest.fixture(scope="module")
def exported(tiny: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's checkpoint as a hub has it."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDLINE_HOME", str(tiny.home))
        patch.setenv("WORLDLINE_QUIET", "1")
        patch.delenv("WORLDLINE_STORAGE", raising=False)
        assert run(["export", "hub", "tiny", "--to", str(folder), "--license", "apache-2.0"]) == 0
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it beside another home, which is empty."""
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "other"))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return Path(shutil.copytree(exported, tmp_path / "downloads" / "tiny"))


def test_another_home_imports_verifies_and_plays(
    tiny: TinyRun, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "hub", str(folder), "--name", "theirs"]) == 0
    shutil.rmtree(folder)  # once imported it is not needed
    store = Store(home.home() / "store")
    (imported,) = store.artefacts("imported")
    for name in ("agent.json", "model.safetensors", "tokenizer.safetensors"):
        assert imported.path(name).read_bytes() == tiny.made["world_action_model"].path(name).read_bytes()
    assert run(["evaluate", "theirs", "--games", "Breakout"]) == 0
    capsys.readouterr()
    assert run(["lineage", "scores/theirs/Breakout", "--verify"]) == 0
    printed = capsys.readouterr()
    for stage in ("world_action_model", "pretrained", "tokens", "trajectories", "replay", "collected_replay"):
        assert str(tiny.made[stage].ref) in printed.out
    assert "rom_md5" in printed.out and "elsewhere" in printed.out
    assert "Verified: 2 artefacts" in printed.err and "7 more are elsewhere" in printed.err


def test_what_came_in_goes_out_again_with_all_of_its_lineage(
    tiny: TinyRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "hub", str(folder)]) == 0
    assert run(["export", "hub", "tiny", "--to", str(tmp_path / "again")]) == 0
    assert "It has not been scored" in (tmp_path / "again" / CARD).read_text()
    monkeypatch.setenv("WORLDLINE_HOME", str(tmp_path / "third"))
    assert run(["import", "hub", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert run(["lineage", "imported/tiny", "--json", "--verify"]) == 0
    artefacts = {each["ref"]: each for each in json.loads(capsys.readouterr().out)["artefacts"]}
    assert artefacts[str(tiny.made["collected_replay"].ref)]["elsewhere"]
    assert sum(each["elsewhere"] for each in artefacts.values()) == 8, "the second home's import is elsewhere too"
    assert run(["lineage", "imported/tiny", "--to", "openlineage"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["outputs"][0]["name"] for event in events} == artefacts.keys()
    assert events[-1]["inputs"][0]["name"] in artefacts, "a copy reads what it is a copy of"
    assert run(["lineage", "imported/tiny", "--to", "ro-crate", "--out", str(tmp_path / "crate")]) == 0
    assert {
        str(path.parent.relative_to(tmp_path / "crate/lineage")) for path in (tmp_path / "crate").rglob(MANIFEST_NAME)
    } == artefacts.keys()


def test_a_home_that_has_the_ancestors_shows_its_own(
    tiny_copy: TinyRun, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    assert run(["import", "hub", str(folder), "--name", "back"]) == 0
    assert run(["lineage", "imported/back", "--verify"]) == 0
    assert "elsewhere" not in capsys.readouterr().out
    flip_byte(tiny_copy.made["replay"].path("replay.png"))
    assert run(["lineage", "imported/back", "--verify"]) == 1


def test_the_sums_hold_without_worldline_and_the_card_is_what_hubs_read(tiny: TinyRun, folder: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == len(listing(folder).splitlines())
    card = ModelCard.load(folder / CARD)
    assert card.data.license == "apache-2.0" and card.data.library_name == "worldline"
    greedy = card.data.eval_results[0]
    assert greedy.dataset_name == "Breakout" and "sticky" in greedy.task_name and "95% interval" in greedy.metric_name
    assert greedy.metric_value == tiny.made["scores"].manifest.metrics["greedy"]["mean"]
    rom = tiny.made["scores"].manifest.roots[0]["rom_md5"]
    for text in (rom, tiny.made["trajectories"].digest, str(tiny.made["collected_replay"].ref), "worldline import hub"):
        assert text in card.text


def test_the_same_artefacts_give_the_same_folder(tiny: TinyRun, folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny.home))
    to = tmp_path / "tiny"
    assert run(["export", "hub", "tiny", "--to", str(to), "--license", "apache-2.0"]) == 0
    assert (to / SUMS).read_bytes() == (folder / SUMS).read_bytes()
    assert run(["export", "hub", "tiny", "--to", str(to)]) == 2, "it is there"
    assert run(["export", "hub", "tiny", "--to", str(to), "--overwrite"]) == 0


def refused(capsys: pytest.CaptureFixture[str], folder: Path, code: int = 1) -> str:
    """The one line of a refused import; nothing may be left of it."""
    capsys.readouterr()
    assert run(["import", "hub", str(folder)]) == code
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out and "fault of Worldline" not in printed.err, printed
    assert not list((home.home() / "store").glob("imported/**/*")), "nothing half-written"
    assert not (home.home() / "experiments").exists()
    return printed.err


def test_every_changed_file_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [line.split("  ")[1] for line in (folder / SUMS).read_text().splitlines()]
    assert len(names) > 12
    for name in names:
        flip_byte(folder / name, 20)
        assert name in (said := refused(capsys, folder)) and "has sha256" in said and "fetch the folder again" in said
        flip_byte(folder / name, 20)
    (folder / names[0]).rename(folder / "gone")
    assert "is missing" in refused(capsys, folder)


def resign(folder: Path) -> None:
    """Make the list agree with what lies there, as a forger would."""
    (folder / SUMS).write_text(listing(folder))


def test_a_forged_list_of_sums_does_not_help(tiny: TinyRun, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip_byte(folder / "model.safetensors", -1)
    resign(folder)
    assert "is not the file that the manifest of world_action_model" in refused(capsys, folder)
    flip_byte(folder / "model.safetensors", -1)
    path = folder / "lineage" / str(tiny.made["collected_replay"].ref) / MANIFEST_NAME
    true = path.read_text()
    path.write_text(true.replace('"sticky": 0.25', '"sticky": 0.00'))
    resign(folder)
    assert "does not fit together: collected_replay/" in refused(capsys, folder)
    path.unlink()
    resign(folder)
    assert "its manifest is missing" in refused(capsys, folder)
    path.write_text(true)
    (path.parent / "more.bin").write_text("mine")
    resign(folder)
    assert "more.bin is not the file that" in refused(capsys, folder)
    (path.parent / "more.bin").unlink()
    (folder / "tokenizer.safetensors").unlink()
    resign(folder)
    assert "tokenizer.safetensors is missing" in refused(capsys, folder)


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/passwd", "lineage/../../../evil", "run.py", "lineage/a b"])
def test_a_name_that_leaves_the_folder_or_has_no_place_in_it(folder: Path, capsys, name: str) -> None:
    (folder / SUMS).write_text(f"{(folder / SUMS).read_text()}{'0' * 64}  {name}\n")
    assert f"lists '{name}', which has no place" in refused(capsys, folder, 2)


def test_links_large_cards_and_other_formats(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    (folder / "agent.json").rename(tmp_path / "agent.json")
    (folder / "agent.json").symlink_to(tmp_path / "agent.json")
    assert "agent.json is a link" in refused(capsys, folder)
    (folder / "agent.json").unlink()
    (tmp_path / "agent.json").rename(folder / "agent.json")
    (folder / "lineage").rename(tmp_path / "lineage")
    (folder / "lineage").symlink_to(tmp_path / "lineage")
    assert "lineage is a link" in refused(capsys, folder)
    (folder / "lineage").unlink()
    (tmp_path / "lineage").rename(folder / "lineage")
    with (folder / CARD).open("ab") as card:
        card.truncate(MOST_TEXT + 1)
    assert "README.md has 16" in refused(capsys, folder)
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps(about | {"format": 9}))
    (folder / CARD).write_text("card")
    resign(folder)
    assert "has format 9, this version reads 1: upgrade" in refused(capsys, folder, 2)
    (folder / ABOUT).write_text(json.dumps(about | {"recipe": {"name": "x", "games": ["Pong"], "fetchh": {}}}))
    resign(folder)
    assert "holds no recipe of this version" in refused(capsys, folder, 2)
    (folder / ABOUT).write_text("[]")
    resign(folder)
    assert "is no description of a checkpoint" in refused(capsys, folder, 2)
    (folder / SUMS).write_text("what is this\n")
    assert "has the line 'what is this'" in refused(capsys, folder, 2)
    assert "is no folder of 'worldline export hub'" in refused(capsys, tmp_path, 2)


class FakeHub:
    """What `send` asks of the hub's library."""

    asked: list = []  # noqa: RUF012
    wrong = ""

    def __init__(self, token: str) -> None:
        self.token = token

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> str:
        if self.wrong:
            raise RuntimeError(f"401 for https://user:{self.token}@hub/{repo_id}\nAuthorization: Bearer {self.token}")
        self.asked.append((repo_id, private))
        return f"https://hub/{repo_id}"

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.asked.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


def test_pushing_sends_the_folder_and_never_shows_the_token(tiny: TinyRun, folder: Path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny.home))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    ask = ["export", "hub", "tiny", "--to", str(tmp_path / "out"), "--push", "me/tiny", "--overwrite"]
    assert run(ask) == 2
    assert "set HF_TOKEN in the environment" in capsys.readouterr().err and not (tmp_path / "out").exists()
    monkeypatch.setenv("HF_TOKEN", "hf_verysecretvalue")
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    assert run(ask) == 0
    assert "-> https://hub/me/tiny" in (said := capsys.readouterr().out) and "verysecret" not in said
    assert FakeHub.asked[0] == ("me/tiny", True) and {CARD, SUMS, "agent.json"} <= set(FakeHub.asked[1][1])
    monkeypatch.setattr(FakeHub, "wrong", "yes")
    assert run(ask) == 1
    said = capsys.readouterr().err
    assert "The hub does not take" in said and said.count("\n") == 1 and "verysecret" not in said
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(ask) == 2 and "pip install 'worldline[hub]'" in capsys.readouterr().err


def test_bad_requests_are_one_line(tiny_copy: TinyRun, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    ask = ["export", "hub", "tiny", "--to", str(tmp_path / "out")]
    for more, code, words in (
        (["--license", "My License"], 2, "is no name that hubs know"),
        (["--game", "Pong"], 2, "plays no Pong: it plays Breakout"),
    ):
        assert run([*ask, *more]) == code
        assert words in (said := capsys.readouterr().err) and said.count("\n") == 1
    (tiny_copy.made["replay"].folder / MANIFEST_NAME).rename(tmp_path / "kept")
    assert run(ask) == 1
    assert "cannot go out, replay/Breakout/1" in capsys.readouterr().err
    (tmp_path / "kept").rename(tiny_copy.made["replay"].folder / MANIFEST_NAME)
    assert run(ask) == 0
    monkeypatch.setenv("BUCKET_TOKEN", tiny_copy.made["tokens"].digest[:20])
    assert run([*ask, "--overwrite"]) == 1
    assert "holds what looks like a secret" in capsys.readouterr().err
    assert (tmp_path / "out" / SUMS).is_file(), "what stood there stands there"
