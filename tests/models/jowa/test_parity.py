from pathlib import Path

import numpy as np
import pytest
import torch

from models.jowa.config import JowaConfig
from models.jowa.model import Jowa
from models.jowa.parity import WEIGHTS, _model, check, config_from_weights
from models.tokenizers.parity import config_from_weights as tokenizer_config
from models.tokenizers.vq import Tokenizer
from pipelines.atari.actions import minimal_actions
from pipelines.atari.games import game_id

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = ("jowa_c51_cql_q1.npz", "jowa_c51_cql_q3.npz")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize("name", FILES)
def test_forward_losses_gradients_and_greedy_plans_agree_with_the_original(name: str) -> None:
    arrays = load(name)
    checks = {one.name: one for one in check(arrays, minimal_actions, game_id)}
    covered = {entry for entry, one in checks.items() if one.covered}
    wanted = {
        entry
        for entry in arrays
        if entry.startswith(("forward/logits", "forward/hidden", "loss/")) or entry.endswith("/greedy")
    }
    assert covered == wanted and len(wanted) > 30
    assert [one for one in checks.values() if one.covered and not one.ok] == []
    assert max(checks[entry].error for entry in covered) < 1e-5
    uncovered = [one for one in checks.values() if not one.covered]
    assert uncovered and not any(one.ok for one in uncovered)
    assert all(one.name.startswith(("imagine/", "plan/")) for one in uncovered)


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_tokens_are_those_of_the_recorded_frames(name: str) -> None:
    """The loss entries are computed from `forward/tokens`: they must be what the tokenizer makes of the batch."""
    arrays = load(name)
    prefix = "weights/tokenizer/"
    weights = {key.removeprefix(prefix): torch.from_numpy(arrays[key]) for key in arrays if key.startswith(prefix)}
    tokenizer = Tokenizer(tokenizer_config({key: tuple(weight.shape) for key, weight in weights.items()})).eval()
    tokenizer.load_state_dict(weights)
    tokens = tokenizer.encode_tokens(torch.from_numpy(arrays["batch/observations"])).numpy()
    recorded = arrays["forward/tokens"].reshape(4, 8, 37)
    assert (recorded[..., :36] == tokens).all() and (recorded[..., 36] == arrays["batch/actions"]).all()


def test_without_games_stage_two_and_plans_are_not_covered() -> None:
    checks = {one.name: one for one in check(load(FILES[0]))}
    assert not checks["loss/stage2/total"].covered and not checks["plan/Assault/1/greedy"].covered
    assert checks["loss/stage1/total"].ok and checks["forward/logits_q"].ok
    with pytest.raises(ValueError, match="belong together"):
        check(load(FILES[0]), minimal_actions)


@pytest.mark.parametrize("name", FILES)
def test_beams_are_compared_with_a_recording_that_shows_no_dropout(name: str) -> None:
    """With our own, dropout-free Q logits in the file. One action a level leaves nothing to dropout's chance here."""
    arrays = load(name)
    with torch.no_grad():
        outputs = _model(arrays)(torch.from_numpy(arrays["forward/tokens"]), torch.from_numpy(arrays["forward/games"]))
    for head in ("q", "q_target"):
        arrays[f"forward/logits_{head}"] = outputs.logits[head].flatten(-2).numpy()
    checks = {one.name: one for one in check(arrays, minimal_actions, game_id)}
    beams = [entry for entry in arrays if "/beam_" in entry]
    assert all(checks[entry].covered for entry in beams)
    narrow = [checks[entry] for entry in beams if entry.endswith("w1_h1")]
    assert len(narrow) >= 4 and all(one.ok for one in narrow)


def test_a_changed_weight_fails() -> None:
    arrays = load(FILES[0])
    arrays[WEIGHTS + "head_q.head_module.params.9"] = arrays[WEIGHTS + "head_q.head_module.params.9"] + 0.3 * np.arange(
        918
    )
    checks = {one.name: one for one in check(arrays, minimal_actions, game_id)}
    assert not checks["forward/logits_q"].ok and not checks["loss/stage2/total"].ok
    assert checks["forward/hidden"].ok and checks["loss/stage1/total"].ok


@pytest.mark.parametrize("task_embedding", [True, False])
def test_config_is_read_back_from_weights(task_embedding: bool) -> None:
    config = JowaConfig(vocab_size=30, layers=3, heads=2, width=128, num_q=2, q_hidden=7, task_embedding=task_embedding)
    shapes = {name: tuple(tensor.shape) for name, tensor in Jowa(config).state_dict().items()}
    assert config_from_weights(shapes) == config
    del shapes["pos_emb.weight"]
    with pytest.raises(ValueError, match=r"pos_emb\.weight"):
        config_from_weights(shapes)
