"""Retention: a sequence model with three equal forms, and RetNet's decoder in the shape that REM uses.

Every head has a state S (key x value) that decays by gamma a token: S_n = gamma S_{n-1} + k_n^T v_n, and gives
o_n = q_n S_n (`recurrent`). Without states it is (Q K^T * D) V with D[n, m] = gamma^(n - m) for m <= n (`parallel`). In
between, tokens come in blocks: `block_states` is the state after each one, all at once, and `within` the outputs inside
blocks (or chunks of several) that are entered with a state (`retained` is both). Positions enter by rotating queries
and keys. Prediction tokens can be run from the states behind blocks without changing them: REM's parallel observation
prediction (arXiv 2402.05643, section 2.2).
Sources: arXiv 2307.08621 (RetNet), section 2; norms without affine weights, no decay in the rotation, no scaling of
rows, as in yet-another-retnet. Parameters have its names.

Shapes: N rows, L tokens, D width, H heads, E = D / H, T blocks of C tokens, M runs of P prediction tokens; `...` any
axes of blocks.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cpu.shortcuts import Dropout

EPS = 1e-6
FASTEST, SLOWEST = 32, 512  # tokens after which a head's state has decayed by 1 / e, about

# ---- retention: three forms, of rotated q and k (N, H, L, E), k divided by sqrt(E), and v ----


def decays(heads: int, fastest: float = FASTEST, slowest: float = SLOWEST) -> Tensor:
    """gamma of each head, float64 (H,): 1 - 1/32 to 1 - 1/512, even in the logarithm of their distance from 1.

    fastest, slowest: tokens after which the first and the last head's state has decayed by 1 / e, about.
    """
    return 1 - torch.linspace(math.log(1 / fastest), math.log(1 / slowest), heads, dtype=torch.float64).exp()


def decay_mask(gammas_H: Tensor, length: int) -> Tensor:
    """D (H, L, L): gamma^(n - m) for m <= n, else 0."""
    steps_L = torch.arange(length, device=gammas_H.device)
    behind_LL = (steps_L[:, None] - steps_L).clamp(min=0)
    return (gammas_H[:, None, None] ** behind_LL).tril()


def parallel(q_NHLE: Tensor, k_NHLE: Tensor, v_NHLE: Tensor, gammas_H: Tensor) -> Tensor:
    """Outputs (N, H, L, E) of whole sequences."""
    return (q_NHLE @ k_NHLE.mT * decay_mask(gammas_H, q_NHLE.shape[2]).to(q_NHLE)) @ v_NHLE


def recurrent(
    q_NHLE: Tensor, k_NHLE: Tensor, v_NHLE: Tensor, gammas_H: Tensor, state_NHEE: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs (N, H, L, E) and the last state (N, H, E, E), token by token."""
    gammas_H11 = gammas_H.to(q_NHLE)[:, None, None]
    state_NHEE = k_NHLE[:, :, 0, :, None] * 0 * v_NHLE[:, :, 0, None] if state_NHEE is None else state_NHEE
    outputs = []
    for token in range(q_NHLE.shape[2]):
        state_NHEE = gammas_H11 * state_NHEE + k_NHLE[:, :, token, :, None] * v_NHLE[:, :, token, None]
        outputs.append((q_NHLE[:, :, token, None] @ state_NHEE)[:, :, 0])
    return torch.stack(outputs, dim=2), state_NHEE


def within(q: Tensor, k: Tensor, v: Tensor, gammas_H: Tensor, entered: Tensor) -> Tensor:
    """Outputs (N, H, ..., C, E) of blocks of C tokens, each entered with a state (N, H, ..., E, E)."""
    length, between = q.shape[-2], (1,) * (q.ndim - 4)
    mask_HLL = decay_mask(gammas_H, length).to(q).view(-1, *between, length, length)
    reach_HL = gammas_H[:, None] ** torch.arange(1, length + 1, device=gammas_H.device)
    reached = q * reach_HL.to(q).view(-1, *between, length, 1)
    return (q @ k.mT * mask_HLL) @ v + reached @ entered


def block_states(k_NHTCE: Tensor, v_NHTCE: Tensor, gammas_H: Tensor, state_NHEE: Tensor | None = None) -> Tensor:
    """The states (N, H, T, E, E) after each of T blocks, of which the first is entered with a state, or with none.

    States are what retention over blocks makes of what each block adds: no loop over tokens or blocks.
    """
    blocks, length = k_NHTCE.shape[2:4]
    left_HC = gammas_H[:, None] ** torch.arange(length - 1, -1, -1, device=gammas_H.device)
    added = (k_NHTCE * left_HC.to(k_NHTCE)[:, None, :, None]).mT @ v_NHTCE  # (N, H, T, E, E)
    over_block_H = gammas_H**length
    mixed = (decay_mask(over_block_H, blocks).to(added) @ added.flatten(3)).view_as(added)
    if state_NHEE is None:
        return mixed
    kept_HT = over_block_H[:, None] ** torch.arange(1, blocks + 1, device=gammas_H.device)
    return mixed + kept_HT.to(mixed)[:, :, None, None] * state_NHEE[:, :, None]


def retained(
    q_NHLE: Tensor,
    k_NHLE: Tensor,
    v_NHLE: Tensor,
    gammas_H: Tensor,
    state_NHEE: Tensor | None = None,
    block: int = 0,
    per_chunk: int = 1,
) -> tuple[Tensor, Tensor]:
    """Outputs (N, H, L, E), and states (N, H, T, E, E) after each block of `block` tokens (0: all are one block).

    What enters a chunk of `per_chunk` blocks comes by a state, what is inside it by the parallel form; how many blocks
    are in one changes what it costs, not what comes out. Raises ValueError where L does not divide into blocks.
    """
    length = q_NHLE.shape[2]
    block = block or length
    if length % block:
        raise ValueError(f"{length} tokens do not divide into blocks of {block}: give whole blocks")
    by_block = (-1, block)
    states = block_states(k_NHLE.unflatten(2, by_block), v_NHLE.unflatten(2, by_block), gammas_H, state_NHEE)
    blocks = length // block
    before = torch.zeros_like(states[:, :, 0]) if state_NHEE is None else state_NHEE
    before_NHTEE = torch.cat([before[:, :, None], states[:, :, :-1]], dim=2)
    whole = blocks // per_chunk * per_chunk  # blocks in full chunks; the others are a shorter one
    outputs = []
    for first, last, each in ((0, whole, per_chunk), (whole, blocks, blocks - whole)):
        if first == last:
            continue
        tokens = slice(first * block, last * block)
        q, k, v = (x[:, :, tokens].unflatten(2, (-1, each * block)) for x in (q_NHLE, k_NHLE, v_NHLE))
        outputs.append(within(q, k, v, gammas_H, before_NHTEE[:, :, first:last:each]).flatten(2, 3))
    return torch.cat(outputs, dim=2), states


# ---- positions ----


def angles(width: int) -> Tensor:
    """The rotation a token, in radians, of each number of a head: float64 (E,), 10000^(-i / (E / 2 - 1)) twice each."""
    return (10_000.0 ** -torch.linspace(0, 1, width // 2, dtype=torch.float64)).repeat_interleave(2)


def rotated(x_NHLE: Tensor, positions_L: Tensor) -> Tensor:
    """Pairs (2i, 2i + 1) of each token turned by its position times their angle."""
    turns_LE = positions_L.double()[:, None] * angles(x_NHLE.shape[3]).to(positions_L.device)
    quarter = torch.stack([-x_NHLE[..., 1::2], x_NHLE[..., ::2]], dim=-1).flatten(-2)
    return x_NHLE * turns_LE.cos().to(x_NHLE.dtype) + quarter * turns_LE.sin().to(x_NHLE.dtype)


# ---- the decoder ----

Core = Callable[[Tensor, Tensor, Tensor], Tensor]
"""core(rotated q of what is asked for, rotated and scaled k, v), each (N, H, L, E) -> outputs: a form of above"""


def kept(x_NLD: Tensor, places: Tensor | None) -> Tensor:
    """The tokens at these places; all where none are given."""
    return x_NLD if places is None else x_NLD[:, places]


class Retention(nn.Module):
    """Multi-head retention: a norm without weights for each head, a gate, a projection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.g_proj, self.out_proj = (nn.Linear(width, width) for _ in range(5))
        self.drop = Dropout(dropout)

    def forward(self, x_NLD: Tensor, positions_L: Tensor, core: Core, keep: Tensor | None = None) -> Tensor:
        read = ((x_NLD, self.k_proj), (x_NLD, self.v_proj), (kept(x_NLD, keep), self.q_proj))
        k, v, q = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for x, layer in read)
        asked_L = positions_L if keep is None else positions_L[keep]
        out_NHLE = core(rotated(q, asked_L), rotated(k, positions_L) / math.sqrt(k.shape[3]), v)
        out_NLHE = self.drop(out_NHLE.transpose(1, 2))
        normed_NLD = F.layer_norm(out_NLHE, out_NLHE.shape[3:], eps=EPS).flatten(2)
        return self.out_proj(F.silu(self.g_proj(read[2][0])) * normed_NLD)


class Layer(nn.Module):
    """x + retention(norm(x)), then the same with two linear layers."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.retention = Retention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = Dropout(dropout)

    def forward(self, x_NLD: Tensor, positions_L: Tensor, core: Core, keep: Tensor | None = None) -> Tensor:
        """Outputs (N, L, D), or those of the tokens at the places `keep` alone."""
        retention_NLD = self.retention(self.norm1(x_NLD), positions_L, core, keep)
        x_NLD = kept(x_NLD, keep) + self.drop(retention_NLD)
        inner = self.drop(F.silu(self.linear1(self.norm2(x_NLD))))
        return x_NLD + self.drop(self.linear2(inner))


@dataclass(frozen=True)
class Reading:
    """Outputs (N, L, D) of what was read, or (N, T, D) at blocks' ends; of prediction tokens (N, M, P, D); states."""

    outputs_NLD: Tensor
    predicted_NMPD: Tensor
    states: tuple[Tensor, ...]  # a layer: (N, H, T, E, E), after each block

    @property
    def last(self) -> tuple[Tensor, ...]:
        """The states after the last block, (N, H, E, E) a layer: with what reading goes on."""
        return tuple(states[:, :, -1] for states in self.states)


class RetNet(nn.Module):
    """Layers without a norm at their end. `generator` draws the first weights, the same for every layer if `alike`.

    horizons: the fastest and the slowest decay, see `decays`.
    """

    gammas: Tensor

    def __init__(
        self,
        layers: int,
        heads: int,
        width: int,
        dropout: float,
        generator: torch.Generator,
        horizons: tuple[float, float] = (FASTEST, SLOWEST),
        alike: bool = True,
    ) -> None:
        super().__init__()
        made = [Layer(width, heads, dropout) for _ in range(1 if alike else layers)]
        for module in (module for layer in made for module in layer.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        self.layers = nn.ModuleList([copy.deepcopy(made[0]) for _ in range(layers)] if alike else made)
        self.register_buffer("gammas", decays(heads, *horizons), persistent=False)

    def read(
        self,
        x_NLD: Tensor,
        states: tuple[Tensor, ...] = (),
        first: int = 0,
        block: int = 0,
        per_chunk: int = 1,
        predict: Tensor | None = None,
        behind: slice = slice(0),
        ends_only: bool = False,
    ) -> Reading:
        """Read tokens at positions from `first` on, entered with `states` (none: nothing was read before).

        block: tokens of a block, after each of which states are told (0: all are one). predict: (N, M, P, D) embedded
        prediction tokens, run in the same pass from the states that `behind` picks among T + 1: the entered one, then
        those after each block; they stand at the positions that follow that state. Nothing else sees them. ends_only:
        of what is read, only the outputs at the ends of blocks are wanted; the last layer makes no others, from
        o_n = q_n S_n with the state there.
        """
        length, gammas_H = x_NLD.shape[1], self.gammas
        block = block or length
        positions_L = torch.arange(first, first + length, device=x_NLD.device)
        if predict is not None:
            starts_M = torch.arange(first, first + length + 1, block, device=x_NLD.device)[behind]
            more_MP = starts_M[:, None] + torch.arange(predict.shape[2], device=x_NLD.device)
            positions_L = torch.cat([positions_L, more_MP.flatten()])
            x_NLD = torch.cat([x_NLD, predict.flatten(1, 2)], dim=1)
        found: list[Tensor] = []
        ends = torch.arange(block - 1, length, block, device=x_NLD.device)
        keep = torch.cat([ends, torch.arange(length, x_NLD.shape[1], device=x_NLD.device)])
        for number, layer in enumerate(self.layers):
            entered = states[number] if states else None
            at_ends = ends_only and number == len(self.layers) - 1

            def core(
                q: Tensor, k: Tensor, v: Tensor, entered: Tensor | None = entered, at_ends: bool = at_ends
            ) -> Tensor:
                k_read, v_read = k[:, :, :length], v[:, :, :length]
                if at_ends:
                    by_block = (k_read.unflatten(2, (-1, block)), v_read.unflatten(2, (-1, block)))
                    after = block_states(*by_block, gammas_H, entered)
                    outputs = (q[:, :, : len(ends), None] @ after)[:, :, :, 0]
                else:
                    outputs, after = retained(q[:, :, :length], k_read, v_read, gammas_H, entered, block, per_chunk)
                found.append(after)
                if predict is None:
                    return outputs
                before = torch.zeros_like(after[:, :, 0]) if entered is None else entered
                starts = torch.cat([before[:, :, None], after], dim=2)[:, :, behind]
                runs = predict.shape[1:3]
                tokens = (q[:, :, outputs.shape[2] :], k[:, :, length:], v[:, :, length:])
                q, k, v = (each.unflatten(2, runs) for each in tokens)
                return torch.cat([outputs, within(q, k, v, gammas_H, starts).flatten(2, 3)], dim=2)

            x_NLD = layer(x_NLD, positions_L, core, keep if at_ends else None)
        read = len(ends) if ends_only else length
        shape = (0, 0) if predict is None else predict.shape[1:3]
        return Reading(x_NLD[:, :read], x_NLD[:, read:].unflatten(1, shape), tuple(found))

    def predict(self, x_NPD: Tensor, states: tuple[Tensor, ...], first: int) -> Tensor:
        """Outputs (N, P, D) of prediction tokens that follow what `states` have read, in a pass of their own."""
        positions_P = torch.arange(first, first + x_NPD.shape[1], device=x_NPD.device)
        for layer, state_NHEE in zip(self.layers, states, strict=True):

            def core(q: Tensor, k: Tensor, v: Tensor, state_NHEE: Tensor = state_NHEE) -> Tensor:
                return within(q, k, v, self.gammas, state_NHEE)

            x_NPD = layer(x_NPD, positions_P, core)
        return x_NPD
