"""Floating-point operations that JOWA's objectives ask for: what a training step's speed is measured against.

A multiplication and an addition are two. Matrix products alone are counted; attention in full, although half of it is
masked (as PaLM counts, Chowdhery et al. 2022, arXiv 2204.02311, appendix B: at 150M that half is 3% of a step).
Gradients cost twice the forward pass; nothing is counted twice for being recomputed.
Letters: L tokens, D width, T steps, V vocabulary, Q members, h hidden width, A * Z outputs of a Q head.
"""

from itertools import pairwise

from models.jowa.config import JowaConfig

REWARDS, ENDS = 3, 2  # classes


def stage_2_flops(config: JowaConfig, segments: int) -> int:
    """Of one step of `world_action_loss` on full segments, gradients included."""
    steps, length, width = config.max_steps, config.max_tokens, config.width
    trunk = config.layers * (24 * length * width**2 + 4 * length**2 * width)  # 12 D^2 weights a layer; q k^T and p v
    observations = (length - steps) * _products(width, width, config.vocab_size)
    at_action = steps * (_products(width, width, REWARDS) + _products(width, width, ENDS))
    outputs = config.num_actions * config.outputs_per_action
    q = config.num_q * steps * _products(width, config.q_hidden, config.q_hidden, outputs)
    spared = 0 if config.q_trains_trunk else config.num_q * steps * _products(width, config.q_hidden)
    target = q  # has no gradients
    return segments * (3 * (trunk + observations + at_action + q) - spared + target)


def _products(*sizes: int) -> int:
    """Of one row through linear layers of these sizes."""
    return sum(2 * size_in * size_out for size_in, size_out in pairwise(sizes))
