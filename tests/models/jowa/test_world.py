import pytest
import torch

from models.api import Batch, Context, WorldModel
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, context_tokens, expected_values


def make_context(model: Jowa, rows: int = 3, steps: int = 2) -> Context:
    config, generator = model.config, torch.Generator().manual_seed(8)
    tokens = torch.randint(config.vocab_size, (rows, steps, config.tokens_per_frame), generator=generator)
    actions = torch.randint(config.num_actions, (rows, steps - 1), generator=generator)
    return Context(tokens, actions, torch.arange(rows) % config.num_games)


def imagine_slowly(model: Jowa, context: Context, row: int, actions: list[int]) -> tuple[list[list[int]], list[int]]:
    """Frames and rewards one row imagines, each token by a whole uncached pass."""
    sequence = context_tokens(context, model.config.tokens_per_frame)[row : row + 1]
    games, frames, rewards = context.games_N[row : row + 1], [], []
    for action in actions:
        sequence = torch.cat([sequence, torch.tensor([[action]])], dim=1)
        rewards.append(int(model(sequence, games).logits["rewards"][0, -1].argmax()) - 1)
        frame: list[int] = []
        while len(frame) < model.config.tokens_per_frame:
            frame.append(int(model(sequence, games).logits["observations"][0, -1].argmax()))
            sequence = torch.cat([sequence, torch.tensor([[frame[-1]]])], dim=1)
        frames.append(frame)
    return frames, rewards


def test_rows_imagine_together_what_each_imagines_alone_without_a_cache(model: Jowa) -> None:
    context = make_context(model)
    world: WorldModel = JowaWorld(model)
    world.reset(context)
    first = world.step(torch.tensor([1, 2, 3]))
    world.gather(torch.tensor([2, 0, 2]))
    second = world.step(torch.tensor([4, 5, 6]))
    for row, (source, actions) in enumerate([(2, [3, 4]), (0, [1, 5]), (2, [3, 6])]):
        frames, rewards = imagine_slowly(model, context, source, actions)
        assert [first.tokens_NK[source].tolist(), second.tokens_NK[row].tolist()] == frames
        assert [first.rewards_N[source].item(), second.rewards_N[row].item()] == rewards


def test_reset_stands_at_the_newest_observation(model: Jowa) -> None:
    context = make_context(model)
    here = JowaWorld(model).reset(context)
    tokens = context_tokens(context, model.config.tokens_per_frame)
    values = expected_values(model(tokens, context.games_N).logits["q"], model.config)[:, -1]
    torch.testing.assert_close(here.values_NA, values)
    assert torch.equal(here.tokens_NK, context.tokens_NCK[:, -1])
    assert here.rewards_N.tolist() == [0, 0, 0] and here.ends_N.tolist() == [False] * 3


def test_a_step_before_reset_beyond_the_positions_and_frames_of_another_size_are_refused(model: Jowa) -> None:
    world = JowaWorld(model)
    with pytest.raises(ValueError, match="call reset"):
        world.step(torch.zeros(1, dtype=torch.long))
    world.reset(make_context(model, steps=5))
    with pytest.raises(ValueError, match="do not fit a model of 5 steps"):
        for _ in range(5):
            world.step(torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="7 tokens a frame"):
        world.reset(Context(torch.zeros(1, 1, 7).long(), torch.zeros(1, 0).long(), torch.zeros(1).long()))


def test_its_loss_is_the_world_models(model: Jowa, batch: Batch) -> None:
    assert set(JowaWorld(model).loss(batch).terms) == {"observations", "rewards", "ends"}
