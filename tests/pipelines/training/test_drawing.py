"""Draws that remember, as a training feeds them: alike for any number of workers and ranks, and when it goes on."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.batches.loader import SegmentBatch
from pipelines.batches.memory import Draws
from pipelines.episodes.experience import STEP, Experience, Game
from pipelines.training.device import Device
from pipelines.training.drawing import Drawing
from pipelines.training.inputs import tensors
from pipelines.training.prefetch import Prefetcher
from tests.pipelines.batches.test_sampler import Numbered

CPU = Device("cpu", False)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 8 workers on 2 cores
STEPS, COUNT = range(40, 52), 6


def drawing(rule: str, **changes: Any) -> Drawing:
    return Drawing(Numbered(3, 9, 1, 5), 0, {"world": rule}, Draws(power=3.0), **changes)


def lost(step: int) -> NDArray[np.float32]:
    return np.random.default_rng(step).random(COUNT).astype(np.float32) * 4


def alone(rule: str) -> list[SegmentBatch]:
    """Batch after batch, with no feed between."""
    draws, found = drawing(rule), []
    source = draws.segments("world", COUNT, 4, "right")
    draws.begin("world", STEPS[0])
    for step in STEPS:
        found.append(source.batch(step))
        draws.follow("world", lost(step))
    return found


@pytest.mark.parametrize("rule", ["counts", "losses"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_batches_are_the_same_for_any_number_of_workers_and_ranks(rule: str, ranks: int, workers: int) -> None:
    expected = alone(rule)
    each = [drawing(rule) for _ in range(ranks)]
    asked = 0 if each[0].by_losses("world") else workers  # as a `Task` asks
    sources = [{"world": draws.segments("world", COUNT, 4, "right")} for draws in each]
    feeds = [Prefetcher(source, CPU, asked, rank=rank, world=ranks) for rank, source in enumerate(sources)]
    for draws in each:
        draws.begin("world", STEPS[0])
    for step, whole in zip(STEPS, expected, strict=True):
        parts = [feed.batch(step)["world"] for feed in feeds]
        for name, tensor in tensors(whole).items():
            assert torch.equal(torch.cat([part[name] for part in parts]), tensor), (step, name)
        for draws in each:
            draws.follow("world", lost(step))
    for feed in feeds:
        feed.close()


@pytest.mark.parametrize("rule", ["counts", "losses"])
def test_a_restored_memory_goes_on_bit_for_bit(rule: str) -> None:
    expected, first = alone(rule), drawing(rule)
    first.segments("world", COUNT, 4, "right")
    first.begin("world", STEPS[0])
    for step in STEPS[:5]:
        first._samplers["world"].segments(step)
        first.follow("world", lost(step))
    saved = first.remembered()
    assert saved is not None and set(saved.state_dict()) == {"_extra_state"}
    second = drawing(rule)
    module, source = second.remembered(), second.segments("world", COUNT, 4, "right")
    assert module is not None
    module.load_state_dict(saved.state_dict())
    second.begin("world", STEPS[5])
    for step, whole in zip(STEPS[5:], expected[5:], strict=True):
        found = source.batch(step)
        assert np.array_equal(found.rewards_BT, whole.rewards_BT) and np.array_equal(found.mask_BT, whole.mask_BT)
        second.follow("world", lost(step))


def test_plain_rules_remember_nothing() -> None:
    draws = drawing("steps")
    assert draws.remembered() is None and not draws.by_losses("world") and not draws.by_losses("tokenizer")
    draws.segments("world", COUNT, 4, "right")
    draws.begin("world", 3)
    draws.follow("world", None)


def test_held_out_episodes_are_never_drawn() -> None:
    for rule in ("counts", "losses"):
        draws = drawing(rule, kept=2)
        source = draws.segments("world", COUNT, 1, "right")
        draws.begin("world", 0)
        for step in range(20):
            assert source.batch(step).rewards_BT.max() < 12, "rewards are row numbers"
            draws.follow("world", lost(step))


def test_what_is_played_meanwhile_is_new_and_the_first_turn_is_not_counted(tmp_path: Any) -> None:
    played = Experience(tmp_path, "Pong", (2, 2), [Game(0), Game(1)])
    draws = Drawing(played, 0, {"world": "counts", "eyes": "losses"}, growing=played)

    def turn(*lengths: int) -> None:
        for row, length in enumerate(lengths):
            steps = np.zeros(length, STEP)
            steps["terminals"][-1] = 1
            played.add(row, np.zeros((length, 2, 2), np.uint8), steps)
        played.commit([Game(0), Game(1)])

    tallies = []
    for number, lengths in enumerate([(5, 3), (4, 2), (3, 6)]):
        turn(*lengths)
        for name in ("world", "eyes"):
            source = draws.segments(name, COUNT, 2, "right")
            draws.begin(name, number)
            source.batch(number)
            draws.follow(name, np.zeros(COUNT, np.float32))
        tallies.append({name: memory.state() for name, memory in draws._memories.items()})
    assert [int(tally["world"]["counts"].sum()) for tally in tallies] == [0, COUNT, 2 * COUNT]
    assert played.episode_starts.tolist() == [0, 5, 9, 12, 15, 17, 23], "those of the second come behind"
    known = tallies[2]["eyes"]
    assert known["numbers"].tolist() == [*range(12), *(np.arange(11) + (1 << 40)).tolist()]
    assert int((known["losses"] == 0).sum()) in range(COUNT, 3 * COUNT + 1)
    old = tallies[1]["eyes"]
    for number, value in zip(old["numbers"], old["losses"], strict=True):
        after = known["losses"][np.flatnonzero(known["numbers"] == number)[0]]
        assert after in (value, 0.0), "what was lost stays with the step it was lost at"
