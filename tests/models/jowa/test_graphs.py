"""Graphs of JOWA say what its dream says, step by step, within the window and when it slides."""

from dataclasses import replace

import pytest
import torch

from models.api import Context
from models.jowa.agent import JowaAgent
from models.jowa.config import JowaAgentConfig
from models.jowa.dream import JowaDream
from models.jowa.graphs import graphs
from models.jowa.model import Jowa
from models.jowa.world import context_tokens
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer
from models.worlds import Portable
from tests.models.jowa.test_world import make_context

TOKENIZER = TokenizerConfig(
    vocab_size=16, embed_dim=8, z_channels=8, channels=4, res_blocks=1, attention=False, patch_stem=7, resolution=28,
    downsample=(2,),
)  # fmt: skip


@pytest.mark.parametrize("game", [0, 2])
def test_they_dream_as_the_dream_does(model: Jowa, game: int) -> None:
    tokenizer = Tokenizer(replace(TOKENIZER, vocab_size=model.config.vocab_size)).eval()
    run = {name: graph.module for name, graph in graphs(model, tokenizer, game).items()}
    first = make_context(model, rows=1)
    context = Context(first.tokens_NCK, first.actions_NC, torch.tensor([game]))
    dream = JowaDream(model)
    here, window = dream.reset(context), model.config.max_steps
    q, keys, values = run["read"](context_tokens(context, model.config.tokens_per_frame))
    assert torch.allclose(q, here.values_NA, atol=1e-5)
    for number in range(2 * window):
        action = torch.tensor([number % 3])
        here = dream.step(action)
        if context.tokens_NCK.shape[1] == window:
            context = context.last(window - 1)
            _, keys, values = run["read"](context_tokens(context, model.config.tokens_per_frame))
        observation, reward, end, q, keys, values = run["step"](action, keys, values)
        assert torch.equal(observation, here.tokens_NK), number
        assert float(reward) == float(here.rewards_N) and bool(end) == bool(here.ends_N)
        assert torch.allclose(q, here.values_NA, atol=1e-4)
        tokens_NCK = torch.cat([context.tokens_NCK, observation[:, None]], dim=1)
        context = Context(tokens_NCK, torch.cat([context.actions_NC, action[None]], dim=1), context.games_N)
    assert torch.allclose(run["decode"](observation), tokenizer.decode_tokens(observation), atol=1e-5)


def test_they_are_of_copies_that_do_not_learn(model: Jowa) -> None:
    config = JowaAgentConfig(tokenizer=replace(TOKENIZER, vocab_size=model.config.vocab_size), model=model.config)
    agent = JowaAgent(config)
    assert isinstance(agent, Portable) and agent.window == model.config.max_steps
    found = agent.graphs(1)
    assert found.keys() == {"read", "step", "decode"}
    theirs = {id(each) for graph in found.values() for each in graph.module.parameters()}
    assert theirs and not theirs & {id(each) for net in agent.networks.values() for each in net.parameters()}
    assert not any(each.requires_grad for graph in found.values() for each in graph.module.parameters())
