"""Makes files in the golden format with models of other shapes and options, dropout in their Q heads and all.

Our own modules compute the numbers, so such a file tests that parity reads a file's options and follows its draws; the
equations have tests of their own.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.api import Batch
from models.jowa.config import JowaConfig
from models.jowa.loss import sequence, world_action_loss, world_loss
from models.jowa.model import Jowa
from models.jowa.recorded import replay_dropout
from models.jowa.recorded_plans import Original, beam_search, tree_search
from models.losses.rem import mixture_weights
from models.planning.beam import Beam
from models.planning.mcts import Mcts
from models.tokenizers.config import TokenizerConfig
from models.tokenizers.vq import Tokenizer

GAME, GAME_ID = "Pong", 39


SIDE = 8  # pixels of a frame, which a tokenizer with two halvings makes 4 tokens


def tokenizer(config: JowaConfig) -> Tokenizer:
    """Makes 4 tokens of a frame, and different ones of different frames."""
    sizes = TokenizerConfig(
        vocab_size=config.vocab_size, embed_dim=8, z_channels=8, channels=4, downsample=(2, 2), resolution=SIDE
    )
    made = Tokenizer(sizes, seed=4).eval()
    torch.nn.init.normal_(made.embedding.weight, std=3.0, generator=torch.Generator().manual_seed(5))
    return made


def _batch(config: JowaConfig, segments: int, generator: torch.Generator) -> Batch:
    shape = (segments, config.max_steps)
    mask_BT = torch.ones(shape, dtype=torch.bool)
    mask_BT[-1, 3:] = False
    ends_BT = torch.zeros(shape, dtype=torch.long)
    ends_BT[-1, 2] = 1
    return Batch(
        tokens_BTK=torch.randint(config.vocab_size, (*shape, config.tokens_per_frame), generator=generator),
        actions_BT=torch.randint(config.num_actions, shape, generator=generator),
        rewards_BT=torch.randint(-1, 2, shape, generator=generator).float(),
        ends_BT=ends_BT,
        mask_BT=mask_BT,
        games_B=torch.full((segments,), GAME_ID),
    )


def _losses(
    prefix: str, model: Jowa, losses: dict[str, Tensor], total: Tensor, names: dict[str, tuple[str, float]]
) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    total.backward()
    found = {golden: weight * losses[term] for golden, (term, weight) in names.items() if term in losses}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    found |= {"total": total.detach(), "grad_norm": torch.nn.utils.get_total_norm(gradients.values())}
    found["grad/pos_emb.weight"] = gradients["pos_emb.weight"].norm()
    return {prefix + name: value for name, value in found.items()}


def record(
    config: JowaConfig, legal_A: list[int], seed: int, words: int, segments: int = 5, dreams: Beam | None = None
) -> dict[str, np.ndarray]:
    """All sections but the tokenizer's; imagination where `dreams` says how far.

    `words` draws of `seed` precede; below 0 there is no dropout.
    """
    generator = torch.Generator().manual_seed(99)
    model = Jowa(config, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    batch = _batch(config, segments, generator)
    frames_BTHW = torch.randint(256, (*batch.actions_BT.shape, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    if dreams is not None:
        batch = replace(batch, tokens_BTK=tokenizer(config).encode_tokens(frames_BTHW))
    # The original keeps tables of task embeddings even where it does not use them.
    weights = {f"task_emb.embedding_tables.{i}.weight": torch.randn(60, config.width) for i in (0, 1)}
    weights |= {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arrays: dict[str, Tensor] = {"weights/jowa/" + name: tensor for name, tensor in weights.items()}
    arrays["weights/jowa/head_q.indices"] = torch.arange(config.max_steps)
    arrays["weights/jowa/head_observations.indices"] = torch.arange(config.max_steps * config.tokens_per_frame)
    arrays |= {
        "batch/actions": batch.actions_BT, "batch/rewards": batch.rewards_BT, "batch/ends": batch.ends_BT,
        "batch/mask_padding": batch.mask_BT, "batch/games": batch.games_B,
    }  # fmt: skip
    stream = torch.Generator().manual_seed(max(seed, 0))
    torch.rand(words, generator=stream)
    if seed >= 0:
        replay_dropout(model, stream)
    with torch.no_grad():
        outputs = model(sequence(batch), batch.games_B)
    arrays |= {"forward/tokens": sequence(batch), "forward/games": batch.games_B, "forward/hidden": outputs.hidden_BLD}
    arrays |= {f"forward/logits_{head}": logits for head, logits in outputs.logits.items() if not head.startswith("q")}
    arrays |= {f"forward/logits_{head}": outputs.logits[head].flatten(-2) for head in ("q", "q_target")}  # type: ignore[index]
    names = {"loss_obs": "observations", "loss_rewards": "rewards", "loss_ends": "ends"}
    model(sequence(batch), batch.games_B, heads=("q", "q_target"))
    losses = world_loss(model, batch)
    arrays |= _losses("loss/stage1/", model, dict(losses.terms), losses.total, {k: (v, 1.0) for k, v in names.items()})
    weights_Q = None
    if config.random_mixture:
        before = stream.get_state()
        model(sequence(batch), batch.games_B, heads=("q", "q_target"))
        weights_Q = mixture_weights(config.num_q, stream)
        stream.set_state(before)
    legal_GA = torch.zeros(60, config.num_actions, dtype=torch.bool)
    legal_GA[GAME_ID, legal_A] = True
    losses = world_action_loss(model, batch, legal_GA, weights_Q)
    weighted = {k: (v, config.world_weight) for k, v in names.items()}
    weighted |= {"loss_td_error": ("td", 1.0), "loss_cql_penalty": ("cql", config.cql_weight)}
    weighted |= {
        "info/q_value_of_negative_samples": ("q_logsumexp", 1.0),
        "info/q_value_of_positive_samples": ("q_taken", 1.0),
    }
    arrays |= _losses("loss/stage2/", model, dict(losses.terms), losses.total, weighted)
    arrays["loss/stage2/info/alpha"] = torch.tensor(config.cql_weight)
    context = sequence(batch)[:1, : 2 * config.tokens_per_step - 1]
    original = Original(model, torch.tensor([GAME_ID]), legal_GA[GAME_ID][None])
    prefix = f"plan/{GAME}/2/"
    arrays[prefix + "context"] = context
    arrays[prefix + "greedy"] = original.reset(context)[0].argmax(1)
    paths = beam_search(original, context, 3, 3, 2)
    arrays[prefix + "beam_w3_h2"] = torch.tensor([paths[0].actions[0]])
    searched = tree_search(
        original, context, Mcts(simulations=5, horizon=3, choice="visits", temperature=0.7), faults=True
    )
    arrays[prefix + "mcts_n5_h3_mean0_count1_t0.7"] = torch.tensor([searched])
    if dreams is not None:
        arrays["batch/observations"] = frames_BTHW
        arrays |= {"weights/tokenizer/" + name: tensor for name, tensor in tokenizer(config).state_dict().items()}
        arrays |= _imagined(model, batch, frames_BTHW, legal_GA, dreams)
    return {name: tensor.detach().numpy() for name, tensor in arrays.items()}


def _imagined(model: Jowa, batch: Batch, frames_BTHW: Tensor, legal_GA: Tensor, beam: Beam) -> dict[str, Tensor]:
    """In the original's arrangement: actions and rewards stand one step too early against the frames."""
    config, horizon = model.config, beam.horizon
    rows = batch.mask_BT[:, horizon:].all(1)
    games_N = batch.games_B[rows]
    original = Original(model, games_N, legal_GA[games_N])
    tokens_NL = sequence(batch)[rows, horizon * config.tokens_per_step : -1]
    paths = beam_search(original, tokens_NL, beam.width, beam.width, horizon)
    dreamt_NTHW = tokenizer(config).decode_tokens(torch.stack([torch.stack(path.frames) for path in paths])).squeeze(2)
    frames_NTHW = torch.cat([frames_BTHW[rows, horizon:], (255 * dreamt_NTHW).to(torch.uint8)], 1)
    actions_NT = torch.tensor([path.actions + path.actions[-1:] for path in paths])
    rewards_NT = torch.tensor([path.rewards + path.rewards[-1:] for path in paths])
    return {
        "imagine/observations": frames_NTHW[:, :, None],
        "imagine/actions": torch.cat([batch.actions_BT[rows, horizon + 1 :], actions_NT], 1),
        "imagine/rewards": torch.cat([batch.rewards_BT[rows, horizon + 1 :], rewards_NT], 1),
        "imagine/envs": games_N,
    }
