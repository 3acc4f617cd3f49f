from dataclasses import replace

import pytest
import torch

from models.api import Context, WorldModel
from models.jowa.config import JowaConfig
from models.jowa.loss import expected_values
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld, context_tokens, context_values


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


def test_a_tree_imagines_together_what_each_path_imagines_alone_without_a_cache(model: Jowa) -> None:
    """Nodes of all depths at once: children of the present, of each other, and siblings of both."""
    context = make_context(model)
    world: WorldModel = JowaWorld(model)
    world.reset(context)
    steps = [  # actions and parents of three environments
        ([[1, 2], [2, 3], [3, 1]], [[0, 0], [0, 0], [0, 0]]),
        ([[4, 5], [5, 4], [6, 7]], [[2, 1], [1, 0], [2, 2]]),
        ([[8], [9], [10]], [[3], [0], [1]]),
    ]
    paths = [{0: ([], [], [])} for _ in range(3)]
    for actions, parents in steps:
        here = world.step(torch.tensor(actions).flatten(), torch.tensor(parents).flatten())
        each = len(actions[0])
        for row in range(3):
            for place in range(each):
                taken, frames, rewards = paths[row][parents[row][place]]
                index = row * each + place
                paths[row][len(paths[row])] = (
                    [*taken, actions[row][place]],
                    [*frames, here.tokens_NK[index].tolist()],
                    [*rewards, int(here.rewards_N[index])],
                )
    for row in range(3):
        for taken, frames, rewards in list(paths[row].values())[1:]:
            assert (frames, rewards) == imagine_slowly(model, context, row, taken), taken


def test_steps_without_parents_go_on_from_the_newest_nodes(model: Jowa) -> None:
    context = make_context(model)
    world = JowaWorld(model)
    world.reset(context)
    frames = [world.step(torch.tensor(actions)).tokens_NK for actions in ([1, 2, 3], [4, 5, 6])]
    for row in range(3):
        expected, _ = imagine_slowly(model, context, row, [1 + row, 4 + row])
        assert [frame[row].tolist() for frame in frames] == expected


def test_values_of_a_step_are_the_models_at_its_end(model: Jowa) -> None:
    context = make_context(model)
    world = JowaWorld(model)
    world.reset(context)
    here = world.step(torch.tensor([7, 8, 9]))
    longer = Context(
        torch.cat([context.tokens_NCK, here.tokens_NK[:, None]], 1),
        torch.cat([context.actions_NC, torch.tensor([[7], [8], [9]])], 1),
        context.games_N,
    )
    torch.testing.assert_close(here.values_NA, context_values(model, longer), rtol=1e-4, atol=1e-4)
    assert here.states_N is None


def test_a_step_tells_what_its_state_is_worth_where_the_model_learned_that(config: JowaConfig) -> None:
    model = Jowa(replace(config, state_value=1.0), seed=1).eval()
    with torch.no_grad():
        for weights in model.head_v.parameters():
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(3)) * 0.4)
    context, world = make_context(model), JowaWorld(model)
    world.reset(context)
    actions = torch.tensor([7, 8, 9])
    here = world.step(actions)
    assert here.states_N is not None and here.states_N.shape == (3,)
    tokens_BTK = torch.cat([context.tokens_NCK, here.tokens_NK[:, None]], 1)
    actions_BT1 = torch.cat([context.actions_NC, actions[:, None], actions[:, None]], 1)[..., None]
    tokens_BL = torch.cat([tokens_BTK, actions_BT1], 2).flatten(1)
    with torch.no_grad():
        logits_QBTZ = model(tokens_BL, context.games_N, heads=("v",)).logits["v"]
    torch.testing.assert_close(here.states_N, expected_values(logits_QBTZ, model.config)[:, -1], rtol=1e-4, atol=1e-4)


def test_a_step_tells_the_mean_of_what_its_reward_is_the_likeliest_of(model: Jowa) -> None:
    context, actions = make_context(model), torch.tensor([7, 8, 9])
    world = JowaWorld(model)
    world.reset(context)
    here = world.step(actions)
    sequence = torch.cat([context_tokens(context, model.config.tokens_per_frame), actions[:, None]], dim=1)
    chances = model(sequence, context.games_N).logits["rewards"][:, -1].softmax(-1)
    assert here.expected_N is not None and here.expected_N.abs().min() > 1e-4
    torch.testing.assert_close(here.expected_N, chances @ torch.tensor([-1.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    assert torch.equal(here.rewards_N, chances.argmax(-1).float() - 1)


def test_changed_weights_are_seen_at_the_next_reset(model: Jowa) -> None:
    context, world = make_context(model), JowaWorld(model)
    before = world.reset(context).values_NA
    with torch.no_grad():
        model.transformer.blocks[0].mlp[0].weight.mul_(2)
    after = world.reset(context).values_NA
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, context_values(model, context), rtol=1e-4, atol=1e-4)


def test_a_sampler_draws_what_its_seed_says(model: Jowa) -> None:
    def imagine(seed: int | None) -> list[list[int]]:
        world = JowaWorld(model, None if seed is None else torch.Generator().manual_seed(seed))
        world.reset(make_context(model))
        return [world.step(torch.tensor([1, 2, 3])).tokens_NK.flatten().tolist() for _ in range(3)]

    assert imagine(1) == imagine(1) != imagine(2)
    assert imagine(None) == imagine(None) != imagine(1)


def test_a_world_goes_in_and_out_of_inference_mode(model: Jowa) -> None:
    world, context = JowaWorld(model), make_context(model)
    with torch.inference_mode():
        world.reset(context)
        inside = world.step(torch.tensor([1, 2, 3])).tokens_NK.clone()
    world.reset(context)
    outside = world.step(torch.tensor([1, 2, 3]))
    assert torch.equal(inside, outside.tokens_NK) and not outside.tokens_NK.is_inference()


def test_autocast_imagines_in_its_own_type(model: Jowa) -> None:
    world = JowaWorld(model)
    for _ in range(2):
        world.reset(make_context(model))
        with torch.autocast("cpu", torch.bfloat16):
            world.reset(make_context(model))
            here = world.step(torch.tensor([1, 2, 3]))
        assert here.values_NA.dtype == torch.float32 and bool(here.values_NA.isfinite().all())


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
    world.reset(make_context(model))
    with pytest.raises(ValueError, match="do not divide among 3 environments"):
        world.step(torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"give one parent an action, in 0\.\.0"):
        world.step(torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="Context of 6 steps"):
        world.reset(make_context(model, steps=6))
    with pytest.raises(ValueError, match="7 tokens a frame"):
        world.reset(Context(torch.zeros(1, 1, 7).long(), torch.zeros(1, 0).long(), torch.zeros(1).long()))
