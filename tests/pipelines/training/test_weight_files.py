import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.jowa.config import JowaAgentConfig
from models.jowa.family import JOWA
from models.losses.frames import VGG_STAGES, Lpips
from pipelines.errors import UsageError
from pipelines.training.weight_files import outside_weights


def load(file: str, sha256: str) -> Lpips | None:
    """What a JOWA that names the file learns with."""
    found = outside_weights(JowaAgentConfig(lpips_file=file, lpips_sha256=sha256).outside)
    return Lpips(found["lpips"]) if found else None


def weights() -> dict[str, torch.Tensor]:
    found, channels = {}, 3
    for stage, numbers in enumerate(VGG_STAGES):
        for n in numbers:
            found[f"module.lpips.net.slice{stage + 1}.{n}.weight"] = torch.full((2, channels, 3, 3), 0.1)
            found[f"module.lpips.net.slice{stage + 1}.{n}.bias"] = torch.arange(2.0)
            channels = 2
        found[f"module.lpips.lin{stage}.model.1.weight"] = torch.ones(1, 2, 1, 1)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["vgg.safetensors", "tokenizer.pt"])
def test_both_kinds_of_file_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(weights() | {"module.encoder.conv_in.bias": torch.ones(3)}, path)
    else:
        save_file(weights(), path)
    distance = load(str(path), digest(path))
    assert distance is not None
    assert distance(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)).item() > 0


def test_without_a_file_there_is_no_term() -> None:
    assert load("", "") is None


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (Path("owned"), "")  # type: ignore[return-value]


def test_bad_files_are_one_line_and_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    contents: dict[str, object] = {"hostile.pt": Hostile(), "list.pt": [1], "other.pt": {"a": torch.ones(1)}}
    for name, content in contents.items():
        torch.save(content, name)
    Path("empty.pt").touch()
    Path("noise.safetensors").write_bytes(b"noise" * 9)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises((UsageError, ValueError)) as caught:
            load(str(path), digest(path))
        assert "\n" not in str(caught.value)
    assert not Path("owned").exists()


def test_file_and_digest_belong_together(tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    save_file(weights(), path)
    with pytest.raises(UsageError, match=f"which the config must name: set pretrain.lpips_sha256={digest(path)}"):
        load(str(path), "")
    with pytest.raises(UsageError, match="not 0000"):
        load(str(path), "0" * 64)
    with pytest.raises(UsageError, match=r"pretrain\.lpips_file=PATH"):
        load("", "0" * 64)
    with pytest.raises(UsageError, match="cannot be read"):
        load(str(tmp_path / "absent.pt"), "0" * 64)


def test_only_the_loss_that_reads_them_wants_weights_of_others() -> None:
    config = JowaAgentConfig(lpips_sha256="0" * 64)  # as a checkpoint states it: without the file
    assert JOWA.outside(config, ("world", "world_action")) == {}
    assert JOWA.outside(config, ("world", "tokenizer")) == {"lpips": ("", "0" * 64)}
