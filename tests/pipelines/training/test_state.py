"""The resumable state: everything that decides the next step, replaced atomically, trusted only when whole."""

import errno
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.errors import MayPass
from pipelines.training import state
from pipelines.training.distributed.ranks import Ranks
from pipelines.training.state import Position
from tests.fakes import flip_byte


def network(value: float) -> dict[str, nn.Module]:
    module = nn.Linear(30, 30)
    nn.init.constant_(module.weight, value)
    return {"model": module}


def save(folder: Path, value: float = 1.0) -> Path:
    modules = network(value)
    optimiser = torch.optim.Adam(modules["model"].parameters())
    modules["model"](torch.ones(30)).sum().backward()
    optimiser.step()
    state.save(folder, Position(12, 1, 3.5, {"world": (2, 0.1)}), modules, {"model": optimiser})
    return folder / state.NAME


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path)
    state_of_random_numbers = torch.get_rng_state()
    drawn = torch.rand(3)
    modules = network(0.0)
    position, optimisers = state.load_position(tmp_path, modules)
    assert position == Position(12, 1, 3.5, {"world": (2, 0.1)})
    assert torch.equal(torch.get_rng_state(), state_of_random_numbers)
    assert torch.equal(torch.rand(3), drawn)
    assert modules["model"].weight.mean().item() == pytest.approx(0.999)  # 1 minus Adam's first step
    assert optimisers["model"]["state"][0]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [state.NAME]


def test_each_rank_gets_its_own_random_numbers_and_a_new_rank_keeps_those_it_has(tmp_path: Path) -> None:
    modules = network(1.0)
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        rows.append(torch.get_rng_state())
    content = {"position": [4, 0, 1.0], "optimisers": {}, "rng": torch.stack(rows)}
    torch.save({**content, "modules": {"model": modules["model"].state_dict()}}, tmp_path / state.NAME)
    for rank, seed in ((0, 1), (1, 2), (2, 99)):
        torch.manual_seed(99)
        assert state._load(tmp_path / state.NAME, modules, Ranks(rank, 3), lambda _: None) == (Position(4, 0, 1.0), {})
        drawn = torch.rand(1)
        assert torch.equal(drawn, torch.rand(1, generator=torch.Generator().manual_seed(seed)))


def test_without_a_state_everything_begins_at_nought(tmp_path: Path) -> None:
    modules = network(0.5)
    assert state.load_position(tmp_path, modules) == (Position(), {})
    assert modules["model"].weight.mean().item() == 0.5


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_weight(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    flip_byte(path, largest.header_offset + 200)


def _another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")


def _another_content(path: Path) -> None:
    torch.save({"position": [1, 2]}, path)


def _another_network(path: Path) -> None:
    torch.save({"position": [1, 0, 0.0], "modules": {}, "rng": torch.get_rng_state(), "optimisers": {}}, path)


def _a_program(path: Path) -> None:
    """A pickle that would run code: torch must refuse to build anything but tensors."""
    buffer = io.BytesIO()
    torch.save({"position": network(1.0)["model"]}, buffer)
    path.write_bytes(buffer.getvalue())


def _a_renamed_weight(path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    saved["modules"]["model"]["kernel"] = saved["modules"]["model"].pop("weight")
    torch.save(saved, path)


def _another_shape_in_the_second_weight(path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    saved["modules"]["model"]["bias"] = torch.zeros(31)
    torch.save(saved, path)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _empty,
        _flip_a_weight,
        _another_zip,
        _another_content,
        _another_network,
        _a_program,
        _a_renamed_weight,
        _another_shape_in_the_second_weight,
    ],
)
def test_a_state_that_is_damaged_or_of_another_version_is_set_aside_with_its_rows(
    tmp_path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLDLINE_QUIET", "0")
    for number in (1, 2):
        path = save(tmp_path)
        (tmp_path / "metrics.jsonl").write_text(f"{number}")
        damage(path)
        before, modules = path.read_bytes(), network(0.5)
        random = torch.get_rng_state()
        assert state.load_position(tmp_path, modules) == (Position(), {})
        assert (modules["model"].weight == 0.5).all() and torch.equal(torch.get_rng_state(), random)
        assert (tmp_path / f"state.pt.unreadable-{number}").read_bytes() == before
        assert (tmp_path / f"metrics.jsonl.unreadable-{number}").read_text() == f"{number}"
        assert f"kept as state.pt.unreadable-{number} until" in capsys.readouterr().err
        assert not path.exists()


def test_optimisers_of_another_version_leave_the_networks_as_they_are(tmp_path: Path) -> None:
    save(tmp_path)

    def fits(saved: Mapping[str, dict]) -> None:
        assert list(saved) == ["model"]
        raise ValueError("other groups")

    modules = network(0.5)
    assert state.load_position(tmp_path, modules, fits=fits) == (Position(), {})
    assert (modules["model"].weight == 0.5).all()


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_a_failure_that_may_pass_ends_the_run_and_leaves_the_state(
    tmp_path: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise failure

    with monkeypatch.context() as patch, pytest.raises(MayPass, match=r"state.pt cannot be read now .*stays as it is"):
        patch.setattr(torch, "load", fail)
        state.load_position(tmp_path, network(0.5))
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"] and path.read_bytes() == before
    assert state.load_position(tmp_path, network(0.5))[0].step == 12


def test_a_failed_write_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        state.save(tmp_path, Position(13, 1, 4.0), network(2.0), {})
    assert path.read_bytes() == before
