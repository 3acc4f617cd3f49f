"""The plug of JOWA: what decays, what learns, what a checkpoint's config says, and what may be changed later."""

from dataclasses import replace

import pytest
import torch

from models.api import Batch, FrameBatch, Learning, Moment
from models.jowa.agent import JowaAgent, parameter_groups
from models.jowa.config import JowaAgentConfig, JowaConfig
from models.jowa.model import Jowa
from models.registry import family_of
from models.tokenizers.config import TokenizerConfig

CONFIG = JowaAgentConfig(
    tokenizer=TokenizerConfig(
        vocab_size=16, embed_dim=8, z_channels=8, channels=4, res_blocks=1, attention=False, downsample=(7, 2)
    ),
    model=JowaConfig(vocab_size=16, layers=1, heads=2, width=16, q_hidden=8, q_dropout=0.0),
)


@pytest.fixture
def agent() -> JowaAgent:
    return JowaAgent(CONFIG, seed=3)


def test_linear_weights_and_the_q_head_decay_and_nothing_else() -> None:
    """Named one by one: norms, biases and embeddings must not decay, whatever their names end in."""
    model = Jowa(CONFIG.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    with_decay = {names[id(parameter)] for parameter in decayed["params"]}
    block = "transformer.blocks.0"
    linear = {f"{block}.attn.{part}.weight" for part in ("key", "query", "value", "proj")}
    linear |= {f"{block}.mlp.{part}.weight" for part in (0, 2)}
    linear |= {
        f"head_{head}.head_module.{part}.weight" for head in ("observations", "rewards", "ends") for part in (0, 2)
    }
    q = {name for name, parameter in model.named_parameters() if name.startswith("head_q.")}
    assert with_decay == linear | q
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {names[id(parameter)] for parameter in plain["params"]} == trainable - with_decay
    assert not any(name.startswith("head_q_target.") for name in trainable)


def test_only_what_the_objectives_train_learns(agent: JowaAgent) -> None:
    def learning() -> set[str]:
        named = {f"tokenizer.{name}": weight for name, weight in agent.tokenizer.named_parameters()}
        named |= {f"model.{name}": weight for name, weight in agent.model.named_parameters()}
        return {
            name.split(".")[0] + ("_target" if "q_target" in name else "")
            for name in named
            if named[name].requires_grad
        }

    legal = torch.ones(60, 18, dtype=torch.bool)
    agent.start(Learning(0, legal), ["world"])
    assert learning() == {"model"}
    agent.start(Learning(0, legal), ["tokenizer"])
    assert learning() == {"tokenizer"}
    agent.start(Learning(0, legal), ["tokenizer", "world_action"])
    assert learning() == {"tokenizer", "model"}


def test_the_target_head_follows_every_so_many_steps(agent: JowaAgent) -> None:
    def equal() -> bool:
        target = agent.model.head_q_target.state_dict()
        return all(torch.equal(value, target[name]) for name, value in agent.model.head_q.state_dict().items())

    with torch.no_grad():
        next(agent.model.head_q.parameters()).add_(1)
    agent.after_step(["world_action"], 3, target_every=5)
    agent.after_step(["world"], 4, target_every=5)
    assert not equal()
    agent.after_step(["world_action"], 4, target_every=5)
    assert equal()


def test_parts_of_a_weighted_tokenizer_batch_add_up_to_the_whole() -> None:
    """The motion weights of the whole batch divide each part: wrong rows of them would show here."""
    agent = JowaAgent(replace(CONFIG, motion_gain=3.0, random_shift=2))
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (7, 1, 84, 84), dtype=torch.uint8, generator=generator)
    batch = FrameBatch(frames_nCHW=frames, games_n=torch.tensor([0, 1, 0, 1, 1, 0, 0]))
    backgrounds = {game: torch.full((1, 84, 84), 0.2 + 0.3 * game) for game in (0, 1)}
    agent.start(Learning(0, torch.ones(60, 18, dtype=torch.bool), mean_frames=lambda: backgrounds), ["tokenizer"])
    moment = Moment(4, 0, 7)
    shifted = agent.prepare("tokenizer", batch, moment)
    counts = agent.counts("tokenizer", shifted)

    def gradients(*parts: slice) -> tuple[float, list[torch.Tensor]]:
        agent.tokenizer.zero_grad()
        total = 0.0
        for rows in parts:
            part = FrameBatch(frames_nCHW=shifted.frames_nCHW[rows], games_n=shifted.games_n[rows])
            loss = agent.loss("tokenizer", part, counts, moment)
            loss.total.backward()
            total += float(loss.total)
        return total, [weight.grad.clone() for weight in agent.tokenizer.parameters() if weight.grad is not None]

    whole, split = gradients(slice(0, 7)), gradients(slice(0, 2), slice(2, 3), slice(3, 7))
    assert split[0] == pytest.approx(whole[0], rel=1e-5)
    for ours, theirs in zip(split[1], whole[1], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_config_is_plain_data_and_comes_back() -> None:
    config = replace(
        CONFIG, lpips_sha256="0" * 64, lpips_file="/somewhere/vgg.pt", model=replace(CONFIG.model, task_ids=((2, 1),))
    )
    plain = config.plain()
    assert plain["family"] == "jowa" and "lpips_file" not in plain
    found = JowaAgentConfig.of({**plain, "tokenizer": {**plain["tokenizer"], "downsample": [7, 2]}})
    assert found == replace(config, lpips_file="")
    assert family_of(found).name == "jowa"
    with pytest.raises(TypeError):
        JowaAgentConfig.of({**plain, "colour": 1})


def test_settings_may_change_while_an_agent_learns_on_and_others_are_refused(agent: JowaAgent) -> None:
    agent.reconfigure(world_weight=0.5, penalty="combo", lpips_file="x")
    assert (agent.model.config.world_weight, agent.config.model.penalty, agent.config.lpips_file) == (0.5, "combo", "x")
    with pytest.raises(ValueError, match="no setting 'colour'"):
        agent.reconfigure(colour=1)


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"tokenizer.vocab_size is 16 but model.vocab_size is 64: they must be equal"):
        replace(CONFIG, model=replace(CONFIG.model, vocab_size=64)).require_fit(8)
    with pytest.raises(ValueError, match=r"segment.length is 4 but model.max_steps is 8"):
        CONFIG.require_fit(4)
    CONFIG.require_fit(8)


def test_the_penalty_s_schedule_goes_by_the_step_of_the_training() -> None:
    agent = JowaAgent(replace(CONFIG, model=replace(CONFIG.model, dropout=0.0, cql_weight=0.5, cql_steps=10)), seed=3)
    agent.start(Learning(0, torch.ones(60, 18, dtype=torch.bool)), ["world_action"])
    batch = Batch(
        actions_BT=torch.arange(8).view(2, 4),
        rewards_BT=torch.zeros(2, 4),
        ends_BT=torch.zeros(2, 4, dtype=torch.long),
        mask_BT=torch.ones(2, 4, dtype=torch.bool),
        games_B=torch.zeros(2, dtype=torch.long),
        tokens_BTK=torch.randint(16, (2, 4, 36), generator=torch.Generator().manual_seed(1)),
    )
    counts = agent.counts("world_action", batch)
    first, last = (agent.loss("world_action", batch, counts, Moment(step)) for step in (0, 10))
    assert float(first.total - last.total) == pytest.approx(0.5 * float(first.terms["cql"]), rel=1e-4)
