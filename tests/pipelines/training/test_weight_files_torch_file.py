"""Files of torch: what they hold comes back, and what is no such file is one line that says what was met."""

from pathlib import Path

import pytest
import torch

from pipelines.errors import WorldlineError
from pipelines.training.weight_files import read_data, read_state_dict


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = {"position": [3, 1, 0.5], "weights": {"a": torch.arange(4.0)}}
    torch.save(saved, tmp_path / "state.pt")
    found = read_data(tmp_path / "state.pt")
    assert found["position"] == saved["position"] and torch.equal(found["weights"]["a"], torch.arange(4.0))
    with pytest.raises(WorldlineError, match="holds a list under 'position', not a tensor"):
        read_state_dict(tmp_path / "state.pt")


def test_the_reason_is_what_was_met_and_not_the_advice_to_trust_it(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"noise" * 20)
    with pytest.raises(WorldlineError, match=r"UnpicklingError: Unsupported operand 110\): download it again$"):
        read_state_dict(tmp_path / "model.pt")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_seen(tmp_path: Path, place: float) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.arange(2000.0)}, path)
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 4
    path.write_bytes(raw)
    with pytest.raises(WorldlineError, match=r"is damaged|damaged one"):
        read_state_dict(path)
