import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.api import Batch, Context, Imagined
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import (
    Beam,
    Greedy,
    ImaginedBuffer,
    Leaf,
    gains,
    imaginable,
    imagine,
    leaf_values,
    masked_values,
    plan,
    search,
)
from tests.models.planning.table_world import ACTIONS, GAMMA, TableWorld, context

ALL = torch.ones(2, ACTIONS, dtype=torch.bool)
LEGAL = torch.ones(2, 18, dtype=torch.bool)


def test_greedy_play_takes_the_best_legal_action_and_imagines_nothing() -> None:
    world, legal_NA = TableWorld(1), torch.tensor([[False, True, True], [True, True, False]])
    actions = Greedy().plan(world, context(0, 1), legal_NA, GAMMA).tolist()
    for row, legal in enumerate(([1, 2], [0, 1])):
        values = world.look_up((1000 + row,))[1]
        assert len(values) == ACTIONS and actions[row] == max(legal, key=lambda action: float(values[action]))
    assert not world.asked


def test_leaves_are_worth_their_best_their_mean_over_legal_actions_or_what_their_state_is() -> None:
    values = torch.tensor([[1.0, -2.0, 5.0], [-3.0, -4.0, 9.0]])
    masked = masked_values(values, torch.tensor([[True, True, False], [False, True, False]]))
    here = Imagined(values, torch.zeros(2), torch.zeros(2).bool(), torch.zeros(2, 1).long(), torch.tensor([7.0, 8.0]))
    assert leaf_values(here, masked, "max").tolist() == [1, -4]
    assert leaf_values(here, masked, "mean").tolist() == [-0.5, -4]
    assert leaf_values(here, masked, "state").tolist() == [7, 8]
    assert leaf_values(here, masked, "none").tolist() == [0, 0]
    with pytest.raises(ValueError, match="no value of states"):
        leaf_values(replace(here, states_N=None), masked, "state")


def test_a_step_brings_the_likeliest_sign_or_the_mean_that_a_world_tells() -> None:
    nothing = torch.zeros(2)
    here = Imagined(torch.zeros(2, 3), nothing, nothing.bool(), torch.zeros(2, 1).long(), None, torch.tensor([0.3, 0]))
    assert torch.equal(gains(here, "likeliest"), nothing) and torch.equal(gains(here, "expected"), here.expected_N)
    with pytest.raises(ValueError, match="does not tell the chances of its rewards"):
        gains(replace(here, expected_N=None), "expected")


def test_masks_and_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one legal action"):
        masked_values(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="of the same shape"):
        masked_values(torch.zeros(1, 3), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="NaN"):
        masked_values(torch.tensor([[torch.nan]]), torch.ones(1, 1, dtype=torch.bool))


def score(world: TableWorld, path: tuple[int, ...], legal: list[int], leaf: str = "max") -> float:
    """sum_i gamma^i r_i + gamma^depth leaf value of a path whose first entry names the row."""
    rewards = [world.look_up(path[: end + 1])[0] for end in range(1, len(path))]
    values = [float(world.look_up(path)[1][action]) for action in legal]
    tail = {"max": max(values), "mean": sum(values) / len(values), "state": world.worth(path)}[leaf]
    return sum(GAMMA**i * reward for i, reward in enumerate(rewards)) + GAMMA ** len(rewards) * tail


def search_slowly(world: TableWorld, row: int, beam: Beam, legal: list[int]) -> int:
    """The same search for one environment, path by path."""
    kept: list[tuple[int, ...]] = [(1000 + row,)]
    for _ in range(beam.horizon):
        children = []
        for path in kept:
            values = world.look_up(path)[1]
            best = sorted(legal, key=lambda action: -float(values[action]))[: beam.width]
            children += [(*path, action) for action in best]
        kept = sorted(children, key=lambda path: -score(world, path, legal, beam.leaf))[: beam.width]
    return kept[0][1]


@pytest.mark.parametrize("leaf", ["max", "mean", "state"])
@pytest.mark.parametrize(("width", "horizon"), [(1, 1), (2, 1), (2, 2), (3, 3), (9, 2)])
def test_batched_search_equals_path_by_path_search(width: int, horizon: int, leaf: Leaf) -> None:
    legal_NA = torch.tensor([[True, True, False], [True, True, True]])
    for seed in range(20):
        world, beam = TableWorld(seed), Beam(width, horizon, leaf)
        expected = [search_slowly(world, 0, beam, [0, 1]), search_slowly(world, 1, beam, [0, 1, 2])]
        assert plan(world, context(0, 1), legal_NA, beam, GAMMA).tolist() == expected, seed


def test_a_wide_beam_finds_the_best_of_all_paths() -> None:
    for seed in range(20):
        world = TableWorld(seed)
        paths = [(1000, *actions) for actions in itertools.product(range(ACTIONS), repeat=2)]
        best = max(paths, key=lambda path: score(world, path, [0, 1, 2]))
        assert plan(world, context(0), ALL[:1], Beam(ACTIONS**2, 2), GAMMA).tolist() == [best[1]]


def test_a_search_returns_the_steps_of_its_best_path() -> None:
    world = TableWorld(5)
    path = search(world, context(0, 1), ALL, Beam(2, 3), GAMMA)
    for row in range(2):
        taken: tuple[int, ...] = (1000 + row,)
        for depth, action in enumerate(path.actions_NH[row].tolist()):
            taken = (*taken, action)
            assert path.rewards_NH[row, depth] == world.look_up(taken)[0]
            assert path.tokens_NHK[row, depth].tolist() == [hash(taken) % 1000]
        assert path.scores_N[row].item() == pytest.approx(score(world, taken, [0, 1, 2]), rel=1e-6)


def test_illegal_actions_are_never_played_though_all_values_are_negative() -> None:
    legal_NA = torch.tensor([[False, False, True], [False, True, True]])
    for seed in range(20):
        first, second = plan(TableWorld(seed), context(0, 1), legal_NA, Beam(3, 3), GAMMA).tolist()
        assert first == 2 and second in (1, 2)


def test_environments_planned_together_are_planned_as_alone(model: Jowa) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (4, 2, 4), generator=generator)
    many = Context(tokens, torch.tensor([[1], [2], [3], [4]]), torch.tensor([0, 1, 2, 0]))
    legal_NA = torch.rand(4, 18, generator=generator) < 0.4
    legal_NA[:, 0] = True
    together = plan(JowaWorld(model), many, legal_NA, Beam(3, 2), 0.99)
    for row in range(4):
        one = Context(tokens[row : row + 1], many.actions_NC[row : row + 1], many.games_N[row : row + 1])
        assert plan(JowaWorld(model), one, legal_NA[row : row + 1], Beam(3, 2), 0.99).tolist() == [int(together[row])]


def test_beams_and_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Beam(0, 2)
    with pytest.raises(ValueError, match="Legal actions"):
        plan(TableWorld(0), context(0, 1), ALL[:, :2], Beam(), GAMMA)
    with pytest.raises(ValueError, match="leaf 'median' is unknown"):
        Beam(leaf="median")  # type: ignore[arg-type]


@pytest.fixture
def real(batch: Batch) -> Batch:
    """The two of the batch's segments whose three newest steps are real."""
    rows = imaginable(batch, 2)
    assert rows.tolist() == [True, False, True]
    fields = ("tokens_BTK", "actions_BT", "rewards_BT", "ends_BT", "mask_BT", "games_B")
    return Batch(**{name: getattr(batch, name)[rows] for name in fields})


def test_the_best_path_is_appended_to_the_newest_steps(model: Jowa, real: Batch) -> None:
    beam = Beam(2, 2)
    ours = imagine(JowaWorld(model), real, LEGAL, beam, 0.99)
    assert real.tokens_BTK is not None and ours.tokens_BTK is not None and ours.imagined_B is not None
    context = Context(real.tokens_BTK[:, 2:], real.actions_BT[:, 2:4], real.games_B)
    path = search(JowaWorld(model), context, LEGAL, beam, 0.99)
    for row in range(2):
        first, second = path.actions_NH[row].tolist()
        assert ours.actions_BT[row].tolist() == [*real.actions_BT[row, 2:4].tolist(), first, second, second]
        first, second = path.rewards_NH[row].tolist()
        assert ours.rewards_BT[row].tolist() == [*real.rewards_BT[row, 2:4].tolist(), first, second, second]
    assert torch.equal(ours.tokens_BTK, torch.cat([real.tokens_BTK[:, 2:], path.tokens_NHK], 1))
    assert not ours.ends_BT.any() and ours.mask_BT.all() and ours.imagined_B.all() and not ours.real_mask().any()


def test_frames_are_the_real_ones_then_the_decoded_ones(model: Jowa, real: Batch) -> None:
    def decode(tokens: torch.Tensor) -> torch.Tensor:  # (..., 4) -> (..., 1, 2, 2)
        return tokens.unflatten(-1, (1, 2, 2)) / 255 + 0.001

    frames = torch.arange(2 * 5 * 4).view(2, 5, 1, 2, 2).to(torch.uint8)
    ours = imagine(JowaWorld(model), replace(real, frames_BTCHW=frames), LEGAL, Beam(2, 2), 0.99, decode)
    assert ours.frames_BTCHW is not None and ours.tokens_BTK is not None
    assert torch.equal(ours.frames_BTCHW[:, :3], frames[:, 2:])
    assert torch.equal(ours.frames_BTCHW[:, 3:].flatten(2).long(), ours.tokens_BTK[:, 3:])


def test_padding_missing_tokens_and_horizons_beyond_the_segment_are_refused(
    model: Jowa, batch: Batch, real: Batch
) -> None:
    world = JowaWorld(model)
    with pytest.raises(ValueError, match="must be real"):
        imagine(world, batch, torch.ones(3, 18, dtype=torch.bool), Beam(2, 2), 0.99)
    with pytest.raises(ValueError, match="at least one"):
        imagine(world, real, LEGAL, Beam(2, 5), 0.99)
    with pytest.raises(ValueError, match="encode the batch"):
        imagine(world, replace(real, tokens_BTK=None), LEGAL, Beam(2, 2), 0.99)


def segments(*numbers: int) -> Batch:
    """One-step segments that are told apart by their reward."""
    rows = len(numbers)
    return Batch(
        tokens_BTK=torch.zeros(rows, 1, 4, dtype=torch.long),
        actions_BT=torch.zeros(rows, 1, dtype=torch.long),
        rewards_BT=torch.tensor(numbers, dtype=torch.float32)[:, None],
        ends_BT=torch.zeros(rows, 1, dtype=torch.long),
        mask_BT=torch.ones(rows, 1, dtype=torch.bool),
        games_B=torch.zeros(rows, dtype=torch.long),
        imagined_B=torch.ones(rows, dtype=torch.bool),
    )


def numbers(buffer: ImaginedBuffer, count: int) -> list[int]:
    return buffer.sample(count).rewards_BT[:, 0].int().tolist()


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_buffer_keeps_the_newest_segments_and_draws_all_of_them(capacity: int, sizes: list[int]) -> None:
    buffer, added = ImaginedBuffer(capacity), 0
    for size in sizes:
        buffer.add(segments(*range(added, added + size)))
        added += size
    assert len(buffer) == min(added, capacity)
    assert set(numbers(buffer, 200)) == set(range(max(0, added - capacity), added))


def test_a_seed_repeats_its_draws_and_a_state_continues_them() -> None:
    def filled(seed: int) -> ImaginedBuffer:
        buffer = ImaginedBuffer(8, seed)
        buffer.add(segments(*range(11)))
        return buffer

    first, again, other = filled(1), filled(1), filled(2)
    assert numbers(first, 20) == numbers(again, 20) != numbers(other, 20)
    twin = ImaginedBuffer(8, 5)
    twin.restore(first.state())
    first.add(segments(50, 51))
    twin.add(segments(50, 51))
    assert numbers(first, 20) == numbers(twin, 20)


def test_an_empty_buffer_and_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ImaginedBuffer(0)
    buffer = ImaginedBuffer(3)
    with pytest.raises(ValueError, match="No segments"):
        buffer.sample(1)
    buffer.add(segments(1))
    with pytest.raises(ValueError, match="do not fit among"):
        buffer.add(replace(segments(1), tokens_BTK=None))
    buffer.add(segments(2, 3, 4))
    with pytest.raises(ValueError, match="not of capacity 2"):
        ImaginedBuffer(2).restore(buffer.state())
