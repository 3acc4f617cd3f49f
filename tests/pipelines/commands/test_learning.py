"""Checkpoints go out under the original's names and come in again, exactly; what is no checkpoint is one line."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.api import Agent
from pipelines import home
from pipelines.cli import run
from pipelines.graph.experiment import find
from pipelines.store.store import Store
from pipelines.training.checkpoints import save_agent
from tests.fakes import flip_byte
from tests.pipelines.conftest import TinyRun


@pytest.fixture
def ours(tiny_copy: TinyRun, monkeypatch: pytest.MonkeyPatch) -> TinyRun:
    monkeypatch.setenv("WORLDLINE_HOME", str(tiny_copy.home))
    monkeypatch.delenv("WORLDLINE_STORAGE", raising=False)
    return tiny_copy


@pytest.fixture
def files(ours: TinyRun, tmp_path: Path) -> tuple[Path, Path]:
    """tokenizer.pt and model.pt of the tiny run, as the command exports them."""
    assert run(["export", "checkpoint", "tiny", "--to", "jowa", "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / ours.experiment.key
    return folder / "tokenizer.pt", folder / "model.pt"


def imports(files: tuple[Path, Path], *more: str) -> int:
    return run(["import-jowa", "--tokenizer", str(files[0]), "--model", str(files[1]), "--size", "mini", *more])


def refused(capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], *more: str) -> str:
    """The one line that a refused import prints; nothing may be left of it."""
    capsys.readouterr()
    assert imports(files, *more) in (1, 2)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out and "fault of Worldline" not in printed.err
    assert not (home.home() / "store" / "imported").exists()
    assert len(list((home.home() / "experiments").glob("*.json"))) == 1
    return printed.err


def test_out_and_in_again_is_exact_and_plays_the_same(
    ours: TinyRun, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    prefixed = {f"_orig_mod.module.{name}": tensor for name, tensor in torch.load(files[1]).items()}
    torch.save({**prefixed, "_orig_mod.module.head_q.indices": torch.arange(3)}, files[1])
    lpips = {"lpips.net.slice1.0.weight": torch.ones(1)}
    torch.save({**torch.load(files[0]), **lpips}, files[0])
    assert imports(files, "--name", "theirs", "--games", "Breakout") == 0
    out = capsys.readouterr().out
    assert ": made in " in out and "worldline evaluate theirs" in out
    store, theirs = Store(ours.home / "store"), find(ours.home / "experiments", "theirs")
    made = store.open(store.resolve(f"imported/{theirs.key}"))
    assert made.manifest.checks[0].name == "round_trip" and made.manifest.checks[0].passed
    assert [root["file"] for root in made.manifest.roots] == ["tokenizer.pt", "model.pt"]
    assert all(len(root["sha256"]) == 64 for root in made.manifest.roots) and not made.manifest.parents
    for name, stage in (("tokenizer.safetensors", "pretrained"), ("model.safetensors", "world_action_model")):
        before, after = load_file(ours.made[stage].path(name)), load_file(made.path(name))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)

    assert imports(files, "--name", "theirs", "--games", "Breakout") == 0
    assert "already there" in capsys.readouterr().out
    assert run(["export", "checkpoint", "theirs", "--to", "jowa", "--out", str(files[0].parents[1])]) == 0
    again = torch.load(files[0].parents[1] / theirs.key / "model.pt", weights_only=True)
    plain = {name.removeprefix("_orig_mod.module."): tensor for name, tensor in prefixed.items()}
    assert again.keys() == plain.keys()
    assert all(torch.equal(again[name], plain[name]) for name in plain)


def _bits(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return tensor.dtype, tuple(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_an_imported_file_goes_out_as_it_came_in_bit_for_bit_in_its_dtype(
    ours: TinyRun, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], dtype: torch.dtype
) -> None:
    """Of both files; -0.0 and the smallest number that the dtype has are among the weights."""
    for path in files:
        weights = torch.load(path)
        for name in [name for name, tensor in weights.items() if tensor.is_floating_point()][1:]:
            weights[name] = weights[name].to(dtype)  # the first stays float32: a file may mix
            tiny = torch.finfo(torch.float32 if dtype == torch.float64 else dtype).smallest_normal
            weights[name].view(-1)[:2] = torch.tensor([-0.0, tiny], dtype=dtype)[: weights[name].numel()]
        torch.save(weights, path)
    assert imports(files, "--name", "theirs") == 0
    out = files[0].parents[1] / "again"
    assert run(["export", "checkpoint", "theirs", "--to", "jowa", "--out", str(out)]) == 0
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    for path in files:
        theirs, exported = torch.load(path), torch.load(folder / path.name)
        assert theirs.keys() == exported.keys()
        assert not [name for name in theirs if _bits(theirs[name]) != _bits(exported[name])]


def test_a_weight_that_is_lost_on_the_way_fails_the_check_and_nothing_is_made_from_it(
    ours: TinyRun, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(folder: Path, agent: Agent) -> None:
        with torch.no_grad():
            agent.networks["model"].get_parameter("transformer.ln_f.bias").add_(1e-7)
        save_agent(folder, agent)

    monkeypatch.setattr("pipelines.training.checkpoints.save_agent", careless)
    assert imports(files, "--name", "theirs") == 1
    printed = capsys.readouterr().err
    assert "failed its check 'round_trip' (1 weights do not come back as they came in, among them model: " in printed
    assert "transformer.ln_f.bias): nothing may be built on it" in printed and printed.count("\n") == 1
    assert len(list((ours.home / "experiments").glob("*.json"))) == 1


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.int(), "is int32, the model's is float32: save it as float32 (float16 and bfloat16 are kept"),
        (lambda w: w.bool(), "is bool, the model's is float32"),
        (lambda w: w.to(torch.complex64), "is complex64, the model's is float32"),
        (lambda w: w.to(torch.float8_e4m3fn), "is float8_e4m3fn, the model's is float32"),
        (lambda w: w.double() + 1e-12, "is float64 with numbers that float32 would round: round them yourself with"),
        (lambda w: w.to_sparse(), "is sparse (sparse_coo), not a plain array of numbers: save it as a dense float32"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "is quantised (qint8), not a plain"),
        (lambda w: w.to("meta"), "is on the device 'meta', without any numbers"),
    ],
    ids=["int", "bool", "complex", "float8", "float64", "sparse", "quantised", "meta"],
)
def test_weights_that_would_change_are_refused_by_name_and_dtype(
    files: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[torch.Tensor], torch.Tensor],
    words: str,
) -> None:
    weights = torch.load(files[1])
    torch.save(weights | {"pos_emb.weight": change(weights["pos_emb.weight"])}, files[1])
    said = refused(capsys, files)
    assert "model.pt" in said and f"weight 'pos_emb.weight' {words}" in said


@pytest.mark.slow
def test_an_imported_checkpoint_is_scored_and_ranked_like_any_other(ours: TinyRun, files: tuple[Path, Path]) -> None:
    assert imports(files, "--name", "theirs", "--games", "Breakout") == 0
    assert run(["evaluate", "theirs"]) == 0
    assert run(["report"]) == 0
    store, theirs = Store(ours.home / "store"), find(ours.home / "experiments", "theirs")
    score = store.open(store.resolve(f"scores/{theirs.key}/Breakout"))
    assert [parent.ref.split("/")[0] for parent in score.manifest.parents] == ["imported"]
    assert theirs.key in store.open(store.resolve("leaderboard/all")).path("index.html").read_text()


def test_stages_that_an_import_replaces_are_refused_by_name(
    ours: TinyRun, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert imports(files, "--name", "theirs") == 0
    assert run(["train", "theirs"]) == 2
    assert "Stage 'world_action_model' is not in recipe 'mini': it consists of imported, scores" in (
        capsys.readouterr().err
    )
    assert imports(files, "--name", "tiny") == 2
    assert "Experiment name 'tiny' is taken" in capsys.readouterr().err


def test_another_size_is_named(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    weights = torch.load(files[1])
    weights = {name: t for name, t in weights.items() if not name.startswith("head_q.head_module.params")}
    head = {f"head_q.head_module.params.{i}": torch.zeros(s) for i, s in enumerate([(3, 24, 32)] + [(3, 24)] * 8)}
    torch.save({**weights, **head, "head_q.head_module.params.9": torch.zeros(3, 18 * 51)}, files[1])
    assert "model.pt holds another JOWA: num_q 3 where 1 is asked for: choose the --size" in refused(capsys, files)
    assert "another tokenizer: vocab_size 64 where 2048" in refused(capsys, files, "--size", "150m")


def test_missing_unexpected_and_misshapen_weights_are_listed(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = torch.load(files[1])
    del weights["transformer.ln_f.bias"]
    torch.save({**weights, "stranger": torch.ones(1), "head_ends.head_module.2.bias": torch.ones(7)}, files[1])
    said = refused(capsys, files)
    assert "missing: transformer.ln_f.bias" in said and "unexpected: stranger" in said
    assert "head_ends.head_module.2.bias (7,) for (2,)" in said


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_code_in_a_file_is_refused_and_not_run(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Code()}, files[1])
    assert "holds more than tensors ('posix.mkdir')" in refused(capsys, files)
    files[1].write_bytes(pickle.dumps({"weight": _Code()}))
    assert "is no torch checkpoint, or a damaged one" in refused(capsys, files)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 5_000])
def test_a_cut_file_is_refused(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], cut: int) -> None:
    files[1].write_bytes(files[1].read_bytes()[:cut])
    assert "is no torch checkpoint, or a damaged one" in refused(capsys, files)


def test_a_flipped_byte_is_refused(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(files[1]) as archive:
        entry = max(archive.infolist(), key=lambda found: found.file_size)
    flip_byte(files[1], entry.header_offset + 512)
    assert "has another checksum" in refused(capsys, files)


def test_a_file_that_could_swell_is_refused(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(files[1], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    assert "compressed inside" in refused(capsys, files)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([torch.ones(1)], "holds a list, not weights by name"),
        ({}, "holds a dict, not weights by name"),
        ({"epoch": 3}, "holds a int under 'epoch', not a tensor"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "weight 'weight' holds a number that is not finite"),
    ],
)
def test_what_is_no_state_dict_is_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], data: object, words: str
) -> None:
    torch.save(data, files[1])
    assert words in refused(capsys, files)


def test_other_wrong_requests_are_one_line(
    ours: TinyRun, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "No such file" in refused(capsys, (tmp_path / "none.pt", files[1]))
    assert "Unknown size '15m': did you mean '150m'?" in refused(capsys, files, "--size", "15m")
    assert run(["export", "checkpoint", "tiny", "--to", "onnx", "--out", str(tmp_path)]) == 2
    assert "Unknown format 'onnx'" in capsys.readouterr().err
    assert run(["export", "checkpoint", "tiny", "--to", "jowa", "--out", str(tmp_path / "out")]) == 2
    assert "add --overwrite" in capsys.readouterr().err
