"""From stored data to tensors: held-out episodes are never drawn from, nothing changes on the way."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.batches.loader import SegmentLoader
from pipelines.environments.atari.games import ACTIONS, IDS
from pipelines.environments.registry import game_id
from pipelines.errors import UsageError, WorldlineError
from pipelines.store.store import Store
from pipelines.training.inputs import check_tokens, held_out_from, legal_actions, sources, tensors, to_batch
from tests import fakes
from tests.pipelines.training.toy_game import GAME, make_game


@pytest.mark.parametrize(
    ("episodes", "holdout", "first"),
    [((9, 9, 9), 1, 2), ((9, 9, 9), 2, 1), ((9, 9, 9), 0, 3), ((9,), 1, 1), ((9,), 0, 1)],
)
def test_the_last_episodes_are_kept_but_never_all(episodes: tuple[int, ...], holdout: int, first: int) -> None:
    assert held_out_from(GAME, len(episodes), holdout) == first


@pytest.mark.parametrize(("episodes", "holdout"), [((9, 9, 9), 3), ((9, 9), 7), ((9,), 2)])
def test_more_held_out_episodes_than_there_are_is_refused(
    store: Store, tmp_path: Path, episodes: tuple[int, ...], holdout: int
) -> None:
    data, cut = make_game(store, *episodes)
    words = f"holdout_episodes is {holdout}, but there are {len(episodes)} episodes of Freeway in all: hold out"
    with pytest.raises(UsageError, match=words):
        sources([data], [cut], holdout, [], tmp_path)


@pytest.mark.parametrize("preload", [0, 1 << 30])
def test_held_out_episodes_are_never_drawn_from(store: Store, tmp_path: Path, preload: int) -> None:
    """The held-out episode alone is long enough to show a left half brighter than 24."""
    data, cut = make_game(store, 9, 13, 30, 40)
    (source,) = sources([data], [cut], 2, [], tmp_path)
    loader = SegmentLoader([source], 3, seed=1, preload_bytes=preload)
    brightest = 0
    for step in range(len(source.segments) + 1):
        brightest = max(brightest, int(loader.batch(step).frames_BTHW[..., 0, 0].max()))
        brightest = max(brightest, int(loader.frames_batch(step, 16).frames_nHW[:, 0, 0].max()))
    assert brightest == 24


def test_tensors_hold_what_the_loader_gave(store: Store, tmp_path: Path) -> None:
    data, cut = make_game(store, 11, 12)
    (source,) = sources([data], [cut], 1, [], tmp_path)
    ours = SegmentLoader([source], 4, seed=0).batch(0)
    batch = to_batch(tensors(ours))
    assert batch.tokens_BTK is None
    for name in ("actions_BT", "rewards_BT", "ends_BT", "mask_BT", "games_B"):
        assert np.array_equal(getattr(batch, name).numpy(), getattr(ours, name)), name
    assert np.array_equal(batch.frames_BTCHW.numpy()[:, :, 0], ours.frames_BTHW)
    assert batch.frames_BTCHW.dtype == torch.uint8
    assert set(batch.games_B.tolist()) == {game_id(GAME)}
    assert set(batch.actions_BT[batch.mask_BT].tolist()) == {IDS["NOOP"], IDS["UP"], IDS["DOWN"]}


def test_games_and_their_segments_must_come_in_pairs(store: Store, tmp_path: Path) -> None:
    data, _ = make_game(store, 11, 12)
    line = "Games Freeway are to be learned from, and there are segments of none: name the segments of each game"
    with pytest.raises(UsageError, match=line):
        sources([data], [], 1, [], tmp_path)


def test_a_game_without_a_segment_is_one_line(store: Store, tmp_path: Path) -> None:
    data, cut = make_game(store, 0, 9)
    line = "Freeway has no segment to learn from in the 1 episodes that are not held out"
    with pytest.raises(WorldlineError, match=line):
        sources([data], [cut], 1, [], tmp_path)


def test_tokens_of_another_tokenizer_are_refused(store: Store) -> None:
    first, second = (fakes.make(store, "pretrained", text=text, seed=text) for text in "ab")
    tokens = fakes.make(store, "tokens", (first.ref,))
    check_tokens([tokens], first)
    with pytest.raises(
        UsageError, match=r"tokens/Freeway/\w+ was made by the tokenizer of pretrained/.*tokenize Freeway"
    ):
        check_tokens([tokens], second)


def test_legal_actions_of_games_in_training_and_all_of_the_others() -> None:
    table = legal_actions(("Freeway",))
    assert table.shape == (60, 18)
    row = table[game_id("Freeway")]
    assert [ACTIONS[index] for index in row.nonzero()[:, 0].tolist()] == ["NOOP", "UP", "DOWN"]
    assert table.sum().item() == 59 * 18 + 3
