"""What looking ahead found, in numbers and in words: which of planner, world model and values fails.

Shapes: S states, A legal actions, E environments. Worths are backed up: r + gamma * worth of the next state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipelines.evaluation.look_ahead import Looked

ALIKE = 0.7  # rank correlation from which imagined and real next states count as worth the same
# Student's t that 2.5% exceed, by degrees of freedom from 1 up: few plays know their own spread badly. Beyond, its
# series in 1 / degrees about the normal's (Abramowitz and Stegun 26.7.5), 0.003 off at most.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
NORMAL = 1.96
READ = 0.5  # of the tokens by which the emulator tells actions apart, those from which a world model reads them
FORESEEN = 0.7  # of pairs of steps, those whose rewards are ranked rightly, from which a search may go by them
BETTER = {"imagined": "emulator", "search": "imagined"}  # by choice: which plays better where the choice is what fails
MORE = "raise diagnose.episodes or diagnose.steps"
MATTERS = 0.1  # of greedy play's points, and at least a point: a gain that one would search for


@dataclass(frozen=True)
class Findings:
    """All numbers of a diagnosis; None where there was nothing to find it from.

    best_by_*: by action, in how many states it is the best. ranks_*: rank correlation over the actions of a state, a
    mean over states. spread: standard deviation over the actions of a state of what the emulator's next states are
    worth; imagined_error: mean absolute difference of imagined and real worths: a search decides by noise where it is
    larger. rarity_bias: correlation over actions of the log of their share in the data with the worth behind them
    against the state's mean. promised: what the emulator's best step is backed up to, above what greedy play's is.
    rewards_ranked: the chance that of two tried steps the one with the greater real reward has the greater imagined
    mean, 0.5 for a world model that foresees none. apart and imagined_apart: of a frame's tokens how many differ
    between the next frames of two actions, in the emulator and in imagination. returns_*: correlation with, and excess
    of max Q over, the discounted returns of the play. points: mean and standard error of raw points by each choice.
    gains: the same of what a choice brings above greedy play of the same seeds. A real end is worth nothing; an
    imagined one what the model says, since a search reads no ends. ends and imagined_ends are the shares of tried steps
    that are one; going_error is imagined_error where the emulator goes on.
    """

    actions: list[str]
    best_by_q: list[int]
    best_by_imagined: list[int]
    best_by_real: list[int]
    q_agrees_with_real: float
    imagined_agrees_with_real: float
    ranks_q_real: float
    ranks_imagined_real: float
    spread: float
    imagined_error: float
    going_error: float | None
    ends: float
    imagined_ends: float
    rewards_right: float
    rewards_ranked: float | None
    promised: float
    apart: float
    imagined_apart: float
    shares: list[float] | None
    rarity_bias: float | None
    returns_correlation: float | None
    returns_excess: float | None
    points: dict[str, tuple[float, float]]
    gains: dict[str, tuple[float, float]]
    fails: str
    words: str


def findings(
    looked: "Looked",
    points: Mapping[str, NDArray[np.float64]],
    gamma: float,
    actions: list[str],
    shares_A: NDArray[np.float64] | None,
) -> Findings:
    """Of what was looked at. points: raw ones of the same seeds by the name of a choice, greedy and others, at least 2
    plays each; empty where nothing was played.
    """
    imagined_SA = looked.imagined_rewards_SA + gamma * looked.imagined_SA
    real_SA = looked.real_rewards_SA + gamma * looked.real_SA
    best_q, best_imagined, best_real = (each.argmax(1) for each in (looked.q_SA, imagined_SA, real_SA))
    rows, count = np.arange(len(real_SA)), len(actions)
    known, going_SA = looked.known_S, ~looked.ends_SA
    apart_SA = np.abs(imagined_SA - real_SA)
    numbers: dict[str, Any] = {
        "q_agrees_with_real": float((best_q == best_real).mean()),
        "imagined_agrees_with_real": float((best_imagined == best_real).mean()),
        "ranks_q_real": mean_ranks(looked.q_SA, real_SA),
        "ranks_imagined_real": mean_ranks(imagined_SA, real_SA),
        "spread": float(real_SA.std(1).mean()),
        "imagined_error": float(apart_SA.mean()),
        "ends": float(looked.ends_SA.mean()),
        "imagined_ends": float(looked.imagined_ends_SA.mean()),
        "rewards_right": float((looked.imagined_rewards_SA == looked.real_rewards_SA).mean()),
        "promised": float((real_SA.max(1) - real_SA[rows, best_q]).mean()),
        "apart": float(looked.apart_S.mean()),
        "imagined_apart": float(looked.imagined_apart_S.mean()),
    }
    means = {name: _mean(each) for name, each in points.items() if len(each)}
    gains = {name: _mean(points[name] - points["greedy"]) for name in means if name != "greedy"}
    lost = {name: _mean(points[better] - points[name]) for name, better in BETTER.items() if name in means}
    bias = None if shares_A is None else rarity_bias(looked.real_SA, shares_A)
    plays = len(next(iter(points.values()), ()))
    fails, words = verdict(numbers, means, gains, lost, bias, plays)
    foreseen = ranked(looked.expected_SA.ravel(), looked.real_rewards_SA.ravel())
    words += by_rewards_alone(gains, plays, foreseen) + actions_unread(numbers["imagined_apart"], numbers["apart"])
    return Findings(
        actions=actions,
        best_by_q=np.bincount(best_q, minlength=count).tolist(),
        best_by_imagined=np.bincount(best_imagined, minlength=count).tolist(),
        best_by_real=np.bincount(best_real, minlength=count).tolist(),
        **numbers,
        going_error=float(apart_SA[going_SA].mean()) if going_SA.any() else None,
        shares=None if shares_A is None else shares_A.tolist(),
        rarity_bias=bias,
        rewards_ranked=foreseen,
        returns_correlation=correlation(looked.q_SA.max(1)[known], looked.returns_S[known]),
        returns_excess=float((looked.q_SA.max(1) - looked.returns_S)[known].mean()) if known.any() else None,
        points=means,
        gains=gains,
        fails=fails,
        words=words,
    )


Means = Mapping[str, tuple[float, float]]


def verdict(
    numbers: Mapping[str, float], means: Means, gains: Means, lost: Means, bias: float | None, plays: int
) -> tuple[str, str]:
    """Which part fails: "values", "world model", "planner" or "nothing", or "undecided"; and why, in words.

    With points, a perfect world model that gains nothing at these values convicts them; one that gains where the own
    one does not, and more than it, convicts that; one step that gains where the search does not, and more than it,
    convicts the planner. Without, ranks decide between the first two. lost: by how much each of BETTER is better.
    A mean of so many plays counts where 0 lies outside its interval of 95% by Student's t.
    """
    blur = (
        f"imagined and real next states differ by {numbers['imagined_error']:.3g}, actions by {numbers['spread']:.3g}"
    )
    if not means:
        return _by_ranks(numbers, bias, blur)
    if not any(mean or error for mean, error in gains.values()):
        return "undecided", "all choices got the same points in every play: raise diagnose.steps"
    (greedy, _), (emulator, error), errors = means["greedy"], gains["emulator"], errors_of(plays)
    if not _gains(gains["emulator"], errors):
        least, most = emulator - errors * error, emulator + errors * error
        if least <= 0 and most > MATTERS * max(abs(greedy), 1.0):
            return "undecided", f"a perfect world model gains {_told(gains['emulator'])}: {MORE}"
        worse = "worse than" if _gains((-emulator, error), errors) else "no better than"
        return "values", (
            f"even the emulator's own next states, valued by this agent, play {worse} the best Q "
            f"({means['emulator'][0]:.3g} against {greedy:.3g} points): no world model mends that at these values "
            f"({_rarity(bias)})"
        )
    perfect, own = f"a perfect world model gains {emulator:.3g} points a play", gains["imagined"]
    if not _gains(own, errors):
        if not _gains(lost["imagined"], errors):
            return "undecided", f"{perfect} and this one {_told(own)}: {MORE}"
        return "world model", f"{perfect} and this one gains {own[0]:.3g}: {blur}"
    gained = f"one imagined step gains {own[0]:.3g} points a play, a perfect one {emulator:.3g}"
    if not _gains(gains["search"], errors):
        if not _gains(lost["search"], errors):
            return "undecided", f"{gained}, and the search {_told(gains['search'])}: {MORE}"
        return "planner", f"{gained}, and the search {gains['search'][0]:.3g}: look fewer steps ahead"
    return "nothing", f"{gained}, and the search {gains['search'][0]:.3g}"


def by_rewards_alone(gains: Means, plays: int, foreseen: float | None) -> str:
    """What the emulator's rewards gain where no value is asked, and whether the world model foresees them; "" where
    they gain nothing.
    """
    if "rewards" not in gains or not _gains(gains["rewards"], errors_of(plays)):
        return ""
    gained = f"; rewards alone, each action held in the emulator, gain {_told(gains['rewards'])}"
    if foreseen is None:
        return f"{gained}, and no tried step brought one"
    if foreseen < FORESEEN:
        return f"{gained}, but the world model does not foresee them (it ranks {foreseen:.2f} of pairs rightly)"
    return (
        f"{gained}, and the world model foresees them (it ranks {foreseen:.2f} of pairs rightly): play by rollouts "
        "with evaluate.search.leaf=none, evaluate.search.gain=expected, evaluate.search.hold and evaluate.beam_horizon "
        "as diagnose.hold, and evaluate.beam_width of all actions"
    )


def actions_unread(imagined: float, real: float) -> str:
    """That a world model makes too little of actions, whatever a search or its values are; "" where it does not."""
    if imagined >= READ * real:
        return ""
    return (
        f"; the world model hardly reads actions: the next frames of two of them differ in {real:.2g} tokens in the "
        f"emulator and in {imagined:.2g} in imagination, so no search can choose among them: train it longer"
    )


def _by_ranks(numbers: Mapping[str, float], bias: float | None, blur: str) -> tuple[str, str]:
    if numbers["ranks_q_real"] <= 0:
        return (
            "values",
            f"what Q prefers leads to states that Q values less ({_rarity(bias)}): Q is no number to search by",
        )
    alike = numbers["ranks_imagined_real"] >= ALIKE
    return ("nothing", "imagined and real next states are ranked alike") if alike else ("world model", blur)


def _rarity(bias: float | None) -> str:
    if bias is None:
        return "how often the data shows an action is not known"
    return f"worth behind an action correlates by {bias:.2f} with how often the data shows it"


def _told(gain: tuple[float, float]) -> str:
    return f"{gain[0]:.3g}, standard error {gain[1]:.2g}"


def errors_of(plays: int) -> float:
    """Standard errors of a mean of so many plays, 2 or more, on each side of its interval of 95%."""
    degrees = plays - 1
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    first, second = NORMAL**3 + NORMAL, 5 * NORMAL**5 + 16 * NORMAL**3 + 3 * NORMAL
    return NORMAL + first / (4 * degrees) + second / (96 * degrees**2)


def _gains(gain: tuple[float, float], errors: float) -> bool:
    """Whether a mean is above 0 by more than so many of its standard errors."""
    mean, error = gain
    return mean > errors * error and mean > 0


def _mean(points_E: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard error, of 2 plays or more."""
    return float(points_E.mean()), float(points_E.std(ddof=1) / np.sqrt(len(points_E)))


def rarity_bias(real_SA: NDArray[np.float64], shares_A: NDArray[np.float64]) -> float | None:
    """Correlation over actions of log share and mean worth against the state's mean; None for fewer than 2 actions."""
    seen = shares_A > 0
    return correlation(np.log(shares_A[seen]), (real_SA - real_SA.mean(1, keepdims=True)).mean(0)[seen])


def mean_ranks(one_SA: NDArray[np.float64], other_SA: NDArray[np.float64]) -> float:
    """Spearman's rank correlation over the actions of a state, a mean over the states in which it is defined; or 0."""
    found = [correlation(ranks(one), ranks(other)) for one, other in zip(one_SA, other_SA, strict=True)]
    defined = [each for each in found if each is not None]
    return float(np.mean(defined)) if defined else 0.0


def ranked(scores: NDArray[np.float64], values: NDArray[np.float64]) -> float | None:
    """The chance that of two entries with different values the one of greater value has the greater score, equal
    scores counting half; None where all values are equal.
    """
    kinds = [scores[values == value] for value in np.unique(values)]
    pairs = [(low, high) for place, low in enumerate(kinds) for high in kinds[place + 1 :]]
    wins = [(ranks(np.concatenate([low, high]))[len(low) :] - ranks(high)).sum() for low, high in pairs]
    many = [len(low) * len(high) for low, high in pairs]
    return float(sum(wins) / sum(many)) if many else None


def ranks(values_A: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 up; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values_A, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[inverse])


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Pearson's; None where one of the two does not vary, or there are fewer than 2."""
    if len(one) < 2 or one.std() < 1e-12 or other.std() < 1e-12:
        return None
    return float(np.corrcoef(one, other)[0, 1])
