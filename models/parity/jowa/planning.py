"""Decisions of JOWA: plans with their search trees, play frame by frame, and imagined segments.

The tree of a beam is what the search itself asks of the world: `SearchLog` stands between the two and writes it down.

Shapes: N environments, C steps of context, V nodes, K tokens a frame, A actions, H horizon, F frames.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.api import Batch, Context, Imagined
from models.jowa.policy import JowaPolicy
from models.jowa.world import JowaWorld
from models.parity.jowa.case import Case
from models.parity.jowa.config import planner as planner_of
from models.planning.beam import Beam, imaginable, imagine, search


class SearchLog:
    """A world of one environment that writes down every step which one search takes in it."""

    def __init__(self, world: JowaWorld) -> None:
        self._world = world
        self.parents: list[Tensor] = []  # of every level, as all three
        self.actions: list[Tensor] = []
        self.nodes: list[Imagined] = []

    def reset(self, context: Context) -> Imagined:
        """See `models.api.WorldModel`."""
        self.root = self._world.reset(context)
        return self.root

    def step(self, actions_M: Tensor, parents_M: Tensor | None = None) -> Imagined:
        """See `models.api.WorldModel`."""
        assert parents_M is not None, "a beam names the parent of every node"
        self.parents.append(parents_M)
        self.actions.append(actions_M)
        self.nodes.append(self._world.step(actions_M, parents_M))
        return self.nodes[-1]


def plan_outputs(case: Case) -> Iterator[tuple[str, Tensor]]:
    """Entries `plan/CONTEXT/PLANNER/*`."""
    config, tensor = case.model.config, case.golden.tensor
    for name, stated in case.golden.config["plan"].items():
        game = torch.tensor([case.game(stated["game"])])
        context = Context(tensor(f"batch/plan/{name}/tokens")[None], tensor(f"batch/plan/{name}/actions")[None], game)
        if context.tokens_NCK.shape[1] != stated["context"]:
            raise ValueError(f"plan {name} has a context of another length than {stated['context']}")
        for kind in stated["planners"]:
            planner = planner_of(case.golden.config, kind)
            newest = context.last(config.max_steps - planner.horizon)
            if isinstance(planner, Beam):
                found = _beam_outputs(case, newest, planner)
            else:
                world, legal_NA = JowaWorld(case.model), case.legal_GA[game]
                action_N = planner.plan(world, newest, legal_NA, config.gamma)
                found = {"action": action_N[0], "values": world.reset(newest).values_NA[0]}
            yield from ((f"plan/{name}/{kind}/{entry}", value) for entry, value in found.items())


def _beam_outputs(case: Case, context: Context, beam: Beam) -> dict[str, Tensor]:
    """One search of one environment: its best path, and its tree in order of creation."""
    gamma, legal_NA = case.model.config.gamma, case.legal_GA[context.games_N]
    log = SearchLog(JowaWorld(case.model))
    path = search(log, context, legal_NA, beam, gamma)
    parents_V, actions_V = torch.cat(log.parents), torch.cat(log.actions)
    values_VA = torch.cat([here.values_NA for here in log.nodes])
    rewards_V = torch.cat([here.rewards_N for here in log.nodes])
    leaves_V = values_VA.masked_fill(~legal_NA, -torch.inf).amax(1)
    # Of every node, the root first: its depth, the discounted rewards before it, the first action on the way to it.
    depths, returns, firsts, scores = [0], [0.0], [-1], [0.0]
    for parent, action, reward, leaf in zip(
        parents_V.tolist(), actions_V.tolist(), rewards_V.tolist(), leaves_V.tolist(), strict=True
    ):
        returns.append(returns[parent] + gamma ** depths[parent] * reward)
        depths.append(depths[parent] + 1)
        firsts.append(firsts[parent] if parent else action)
        scores.append(returns[-1] + gamma ** depths[-1] * leaf)
    best: dict[int, float] = {}  # by first action, of the nodes on the last level
    for depth, first, score in zip(depths, firsts, scores, strict=True):
        if depth == beam.horizon:
            best[first] = max(score, best.get(first, score))
    first_actions = [action for action in log.actions[0].tolist() if action in best]
    return {
        "action": path.actions_NH[0, 0],
        "path_actions": path.actions_NH[0],
        "path_rewards": path.rewards_NH[0],
        "path_tokens": path.tokens_NHK[0],
        "path_score": path.scores_N[0],
        "root_values": log.root.values_NA[0],
        "root_actions": torch.tensor(first_actions),
        "root_scores": torch.tensor([best[action] for action in first_actions]),
        "nodes_parents": parents_V,
        "nodes_actions": actions_V,
        "nodes_rewards": rewards_V,
        "nodes_values": values_VA,
        "nodes_tokens": torch.cat([here.tokens_NK for here in log.nodes]),
        "nodes_scores": torch.tensor(scores[1:]),
    }


def play_outputs(case: Case) -> Iterator[tuple[str, Tensor]]:
    """Entries `play/NAME/actions`: acting frame by frame, the context rolling along."""
    frames_F1HW = case.golden.tensor("batch/play/observations")
    for name, stated in case.golden.config["play"].items():
        game = torch.tensor([case.game(stated["game"])])
        planner = planner_of(case.golden.config, stated["planner"])
        policy = JowaPolicy(
            case.model, case.tokenizer, game, case.legal_GA[game], context=stated["context"], planner=planner
        )
        yield f"play/{name}/actions", torch.cat([policy.act(frame_1HW[None]) for frame_1HW in frames_F1HW])


def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`: the batch's newest steps, continued in the model by a beam search."""
    stated, batch = case.golden.config["imagine"], case.batch()
    beam, gamma = Beam(stated["width"], stated["horizon"]), case.model.config.gamma
    horizon = beam.horizon
    rows = imaginable(batch, horizon).nonzero()[:, 0]
    whole = Batch(**{name: value[rows] for name, value in vars(batch).items() if value is not None})
    legal_NA, world = case.legal_GA[whole.games_B], JowaWorld(case.model)
    segments = imagine(world, whole, legal_NA, beam, gamma)
    assert whole.tokens_BTK is not None and segments.tokens_BTK is not None
    context = Context(whole.tokens_BTK[:, horizon:], whole.actions_BT[:, horizon:-1], whole.games_B)
    path = search(world, context, legal_NA, beam, gamma)
    found = {
        "rows": rows,
        "path_actions": path.actions_NH,
        "path_rewards": path.rewards_NH,
        "path_tokens": path.tokens_NHK,
        "path_scores": path.scores_N,
        "path_frames": case.tokenizer.decode_tokens(path.tokens_NHK),
        "tokens": segments.tokens_BTK,
        "actions": segments.actions_BT,
        "rewards": segments.rewards_BT,
        "ends": segments.ends_BT,
        "mask_padding": segments.mask_BT,
    }
    return {f"imagine/{name}": value for name, value in found.items()}
