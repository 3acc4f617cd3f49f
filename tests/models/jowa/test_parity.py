from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.api import Batch, mixed
from models.jowa.config import JowaConfig
from models.jowa.golden import WEIGHTS, Golden, read_model
from models.jowa.loss import sequence, world_action_loss
from models.jowa.parity import check
from models.planning.beam import Beam
from models.tokenizers.parity import read_tokenizer
from pipelines.environments.atari.games import GAMES, minimal_actions
from tests.models.jowa.recordings import GAME, record

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = ("jowa_c51_cql_q1.npz", "jowa_c51_cql_q3.npz")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize("name", FILES)
def test_every_entry_agrees_with_the_original(name: str) -> None:
    arrays = load(name)
    checks = {one.name: one for one in check(arrays, GAMES, minimal_actions)}
    inputs = {"forward/tokens", "forward/games", *(entry for entry in arrays if entry.endswith("/context"))}
    ours = {entry for entry in arrays if entry.startswith(("forward/", "loss/", "plan/", "imagine/"))}
    assert set(checks) == ours - inputs and len(checks) > 60
    assert [one for one in checks.values() if not one.ok] == []
    assert max(one.error for one in checks.values()) < 1e-5


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_tokens_are_those_of_the_recorded_frames(name: str) -> None:
    """The loss entries are computed from `forward/tokens`: they must be what the tokenizer makes of the batch."""
    arrays = load(name)
    tokens = read_tokenizer(arrays).eval().encode_tokens(torch.from_numpy(arrays["batch/observations"])).numpy()
    recorded = arrays["forward/tokens"].reshape(4, 8, 37)
    assert (recorded[..., :36] == tokens).all() and (recorded[..., 36] == arrays["batch/actions"]).all()


def without_plans(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if not name.startswith(("plan/", "imagine/"))}


def test_what_is_unknown_is_uncovered_and_says_so() -> None:
    arrays = without_plans(load(FILES[0]))
    arrays["loss/stage2/novelty"] = np.zeros(())
    arrays["plan/NoSuchGame/1/greedy"] = np.zeros(1, np.int64)
    arrays["plan/Assault/1/psychic"] = arrays["plan/Assault/1/context"] = np.zeros((1, 36), np.int64)
    checks = {one.name: one for one in check(arrays, GAMES, minimal_actions)}
    uncovered = {one.name for one in checks.values() if not one.covered}
    assert uncovered == {"loss/stage2/novelty", "plan/NoSuchGame/1/greedy", "plan/Assault/1/psychic"}
    assert all(checks[name].note and not checks[name].ok for name in uncovered)
    assert checks["loss/stage2/total"].ok


def test_a_changed_weight_fails_and_the_missing_dropout_is_named() -> None:
    arrays = without_plans(load(FILES[0]))
    for head in ("head_q", "head_q_target"):
        outputs = WEIGHTS + head + ".head_module.params.9"
        arrays[outputs] = arrays[outputs] + 0.3 * np.arange(918, dtype=np.float32)
    checks = {one.name: one for one in check(arrays, GAMES, minimal_actions)}
    assert not checks["forward/logits_q"].ok and not checks["loss/stage2/total"].ok
    assert "no small seed" in checks["forward/logits_q"].note
    assert checks["forward/hidden"].ok and checks["loss/stage1/total"].ok


def test_one_head_is_enough_to_find_the_dropout() -> None:
    arrays = without_plans(load(FILES[0]))
    outputs = WEIGHTS + "head_q.head_module.params.9"
    arrays[outputs] = arrays[outputs] + 0.3 * np.arange(918, dtype=np.float32)
    checks = {one.name: one for one in check(arrays, GAMES, minimal_actions)}
    assert not checks["forward/logits_q"].ok and checks["forward/logits_q_target"].ok


def test_a_changed_plan_or_frame_fails() -> None:
    arrays = load(FILES[1])
    arrays["plan/Seaquest/1/beam_w2_h2"] = np.array([0])
    arrays["imagine/observations"][0, 7, 0, 40, 40] ^= 16
    failed = {one.name for one in check(arrays, GAMES, minimal_actions) if not one.ok}
    assert failed == {"plan/Seaquest/1/beam_w2_h2", "imagine/observations"}


def test_a_missing_input_is_named() -> None:
    arrays = without_plans(load(FILES[0]))
    del arrays["batch/actions"]
    with pytest.raises(KeyError, match="batch/actions"):
        check(arrays, GAMES, minimal_actions)


SMALL = JowaConfig(vocab_size=40, tokens_per_frame=4, max_steps=6, layers=2, heads=2, width=32, q_hidden=24)
OTHERS = {
    "clean": (SMALL, -1),
    "one head, three members": (replace(SMALL, heads=1, width=24, num_q=3, q_hidden=30), 0),
    "mse, cql": (replace(SMALL, critic="mse"), 5),
    "mse, the released slip": (replace(SMALL, critic="mse", num_q=2, released_mse_penalty=True), 6),
    "mse, no penalty, detached": (replace(SMALL, critic="mse", num_q=2, penalty="none", q_trains_trunk=False), 17),
    "no penalty": (replace(SMALL, penalty="none"), 3),
    "no task embedding, more weight": (
        replace(SMALL, task_embedding=False, heads=4, cql_weight=0.25, world_weight=0.5, atoms=21),
        4,
    ),
    "random mixture": (replace(SMALL, num_q=4, random_mixture=True), 42),
    "mse, random mixture": (replace(SMALL, num_q=3, critic="mse", random_mixture=True), 2),
    "few steps of many tokens": (replace(SMALL, layers=3, heads=8, width=64, tokens_per_frame=9, max_steps=5), 3),
    "five members, wide": (replace(SMALL, num_q=5, q_hidden=130), 7),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_shapes_and_options_are_followed(name: str) -> None:
    config, seed = OTHERS[name]
    arrays = record(config, list(minimal_actions(GAME)), seed, words=50_003)
    checks = check(arrays, GAMES, minimal_actions)
    assert [one for one in checks if not one.ok] == []
    assert len(checks) > 20 and all("dropout" in one.note for one in checks if "logits_q" in one.name) == (seed >= 0)
    arrays["loss/stage2/grad_norm"] = arrays["loss/stage2/grad_norm"] * np.float32(1.01)
    assert failed(arrays) == ["loss/stage2/grad_norm"]


def failed(arrays: dict[str, np.ndarray]) -> list[str]:
    return [one.name for one in check(arrays, GAMES, minimal_actions) if not one.ok]


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """With weights of the terms that are not the paper's."""
    torch.set_num_threads(1)
    config = replace(SMALL, heads=8, world_weight=0.5, cql_weight=0.25)
    return record(config, list(minimal_actions(GAME)), seed=5, words=50_003, dreams=Beam(3, 2))


def test_options_that_no_entry_names_are_found(recorded: dict[str, np.ndarray]) -> None:
    """Here how wide the imagined search was; that there are more entries is as good as a file that lacks some."""
    assert failed(recorded) == []
    assert sum(name.startswith("imagine/") for name in recorded) == 4


@pytest.mark.parametrize(
    "name",
    [
        "forward/hidden",  # which tells the heads
        "forward/logits_q",  # which tells the dropout
        "loss/stage1/loss_obs",
        "loss/stage2/loss_obs",  # which tells the weight
        "loss/stage2/loss_cql_penalty",
        "plan/Pong/2/beam_w3_h2",
        "imagine/observations",  # which tells the horizon
        "imagine/actions",
    ],
)
def test_one_wrong_number_fails_its_entry_alone(recorded: dict[str, np.ndarray], name: str) -> None:
    wrong = np.array(recorded[name])
    wrong.reshape(-1)[0] += 3 if wrong.dtype.kind in "iu" else 0.01 * np.abs(wrong).max()
    assert failed(recorded | {name: wrong}) == [name]


def test_numbers_of_any_width_will_do(recorded: dict[str, np.ndarray]) -> None:
    other = {"float32": np.float64, "int64": np.int32, "bool": np.uint8}
    assert (
        failed({name: array.astype(other.get(array.dtype.name, array.dtype)) for name, array in recorded.items()}) == []
    )


@pytest.mark.parametrize(
    "lacking",
    ["weights/jowa/head_q.indices", "forward/hidden", "forward/", "loss/", "plan/", "imagine/", "loss/stage2/info/"],
)
def test_what_a_file_lacks_is_left_out(recorded: dict[str, np.ndarray], lacking: str) -> None:
    arrays = {name: array for name, array in recorded.items() if not name.startswith(lacking)}
    checks = check(arrays, GAMES, minimal_actions)
    inputs = ("weights/", "batch/", "forward/tokens", "forward/games", "plan/Pong/2/context")
    assert {one.name for one in checks} == {name for name in arrays if not name.startswith(inputs)}
    # Heads and dropout are read from forward/, which goes on from section to section; the penalty's weight from info/.
    after = {"forward/": ("loss/", "plan/", "imagine/"), "loss/": ("plan/", "imagine/"), "plan/": ("imagine/",)}
    after["loss/stage2/info/"] = ("loss/stage2/total", "loss/stage2/loss_cql", "loss/stage2/grad")
    assert all(one.ok or one.name.startswith(after.get(lacking, ())) for one in checks)


@pytest.mark.parametrize("kind", ["beam_w0_h2", "beam_w2_h0", "beam_w2_h6", "mcts_n5_h3_mean0_count0_t0", "psychic"])
def test_a_planner_that_cannot_be_is_not_covered(recorded: dict[str, np.ndarray], kind: str) -> None:
    kept = ("weights/", "forward/", "batch/", "plan/Pong/2/context")
    arrays = {name: array for name, array in recorded.items() if name.startswith(kept)}
    [one] = [one for one in check(arrays | {f"plan/Pong/2/{kind}": np.zeros(1)}, GAMES, minimal_actions) if not one.ok]
    assert (one.name, one.covered) == (f"plan/Pong/2/{kind}", False)


@pytest.mark.parametrize("penalty", ["cql", "combo"])
def test_an_objective_recorded_with_imagined_segments_mixes_them_in(penalty: str) -> None:
    arrays = {name: array for name, array in load(FILES[0]).items() if not name.startswith(("plan/", "loss/stage2/"))}
    golden = Golden(arrays, read_model(arrays), torch.zeros(60, 18, dtype=torch.bool), {})
    for game in {3, 37, 49}:
        golden.legal_GA[game, list(minimal_actions(GAMES[game]))] = True
    model, here = golden.model, golden.batch()
    model.config = replace(model.config, penalty=penalty)
    clean = model(sequence(here), here.games_B)
    for head in ("q", "q_target"):  # a recording without dropout
        arrays[f"forward/logits_{head}"] = clean.logits[head].flatten(-2).detach().numpy()
    imagined = Batch(
        tokens_BTK=read_tokenizer(arrays).eval().encode_tokens(golden.tensor("imagine/observations")[:, :, 0]),
        actions_BT=golden.tensor("imagine/actions"),
        rewards_BT=golden.tensor("imagine/rewards"),
        ends_BT=golden.tensor("imagine/ends").long(),
        mask_BT=golden.tensor("imagine/mask_padding"),
        games_B=golden.tensor("imagine/envs"),
    )
    losses = world_action_loss(model, mixed(here, imagined), golden.legal_GA)
    arrays["loss/mixed/total"] = losses.total.detach().numpy()
    arrays["loss/mixed/loss_td_error"] = losses.terms["td"].numpy()
    arrays["loss/mixed/loss_cql_penalty"] = (0.1 * losses.terms["cql"]).numpy()
    arrays["loss/mixed/loss_obs"] = 0.1 * arrays["loss/stage1/loss_obs"]
    arrays["loss/mixed/info/reward_imagine"] = arrays["imagine/rewards"].mean()
    checks = [one for one in check(arrays, GAMES, minimal_actions) if one.name.startswith("loss/mixed/")]
    assert len(checks) == 5 and all(one.ok for one in checks)
    assert all(("penalty=combo" in one.note) == (penalty == "combo") for one in checks)
