"""Noise on what is seen: its size, its rounding, its own stream, and rules that ask for it by name."""

import numpy as np
import pytest

from models.spaces import noisy_frames
from pipelines.environments import registry
from pipelines.environments.noise import NoisyGame
from pipelines.environments.registry import NoisyRules, canonical, make, protocol
from pipelines.environments.rollout import EpisodeBatch, play
from pipelines.errors import UsageError
from tests.fakes import ROOT

GOLDEN = ROOT / "tests/golden/thesis_vq_losses.npz"


def played(name: str, seeds: tuple[int, ...], actions: list[int]) -> list[np.ndarray]:
    """Frames of Freeway at the start and after each action; 2 is UP."""
    games = make("Freeway", seeds, protocol(name))
    frames = [games.reset()]
    frames += [games.step(np.full(len(seeds), action)).frames for action in actions]
    games.close()
    return frames


def test_standard_deviation_is_the_one_asked_for() -> None:
    frame = np.full((400, 400), 128, np.uint8)
    seen = np.rint(noisy_frames(frame, np.random.default_rng(0).standard_normal(frame.shape), 0.1))
    assert seen.std() == pytest.approx(25.5, rel=0.01)
    assert seen.mean() == pytest.approx(128, abs=0.2)


def test_numbers_of_the_original() -> None:
    with np.load(GOLDEN) as golden:
        clean = golden["batch/noise/observations"]
        for std in (0.05, 0.3):
            seen = noisy_frames(clean, golden[f"draws/noise/std_{std}"], std)
            np.testing.assert_allclose(seen, golden[f"noise/std_{std}/observations"], rtol=1e-12)
            # The original cut off what it stored, and its policy saw fractions; here both see the nearest byte.
            np.testing.assert_array_equal(seen.astype(np.uint8), golden[f"noise/std_{std}/stored_bytes"])


def test_an_environment_of_a_seed_shows_the_same_frames_whoever_is_beside_it() -> None:
    alone = played("iris+noise0.1", (5,), [2, 2, 2])
    beside = played("iris+noise0.1", (4, 5), [2, 2, 2])
    again = played("iris+noise0.1", (5,), [2, 2, 2])
    for first, second, third in zip(alone, beside, again, strict=True):
        assert first.dtype == np.uint8 and first.shape == (1, 64, 64, 3)
        np.testing.assert_array_equal(first[0], second[1])
        np.testing.assert_array_equal(first, third)


def test_the_game_below_is_the_same_and_every_frame_has_noise_of_its_own() -> None:
    clean, noisy = played("iris", (5,), [2, 2]), played("iris+noise0.02", (5,), [2, 2])
    off = [seen.astype(int) - plain for plain, seen in zip(clean, noisy, strict=True)]
    inside = (np.stack(clean) > 40) & (np.stack(clean) < 215)  # where nothing is clipped
    assert np.stack(off)[inside].std() == pytest.approx(0.02 * 255, rel=0.03)
    assert (off[0] != off[1]).mean() > 0.5


def test_restart_leaves_the_other_rows_frames_and_streams_alone() -> None:
    games = make("Freeway", (1, 2), protocol("iris+noise0.1"))
    assert isinstance(games, NoisyGame)
    before = games.reset()
    after = games.restart([0], [9])
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0] != after[0]).any()
    other = make("Freeway", (9, 2), protocol("iris+noise0.1"))
    np.testing.assert_array_equal(other.reset(), after)
    for games_ in (games, other):
        games_.close()


def test_a_whole_episode_scores_as_without_noise() -> None:
    class Up:
        def begin(self, row: int, seed: int) -> None: ...

        def act(self, frames: np.ndarray, rows: list[int]) -> np.ndarray:
            return np.full(len(rows), 2)

    scores = []
    for name in ("iris", "iris+noise0.5"):
        play(EpisodeBatch("Freeway", protocol(name), {0: 3}, scores.append, max_steps=200), Up())
    assert scores[0].score == scores[1].score
    assert scores[0].clipped_score > 0


def test_names_and_what_a_manifest_says() -> None:
    assert canonical("machado+noise0.10") == "sticky+noise0.1"
    assert canonical("iris+noise0") == "iris"
    assert protocol("iris+noise0.0") is protocol("iris")
    rules = protocol("iris-train+noise0.05")
    assert isinstance(rules, NoisyRules) and rules.name == "iris-train+noise0.05"
    assert (rules.frame, rules.max_steps) == ((64, 64, 3), 5_000)
    roots = registry.roots("Pong", rules)
    assert (roots["protocol"], roots["noise"], roots["life_loss"]) == ("iris-train+noise0.05", 0.05, True)
    games = make("Pong", (0,), rules)
    assert games.roots() == roots
    games.close()


@pytest.mark.parametrize(
    "text", ["iris+noise", "iris+noise-1", "iris+noisenan", "iris+noise1.5", "iris+noise0.1+noise0.2"]
)
def test_impossible_noise_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"give a standard deviation from 0 to 1, as in iris\+noise0\.1"):
        protocol(text)


def test_unknown_rules_below_noise() -> None:
    with pytest.raises(UsageError, match=r"Unknown protocol 'irsi': did you mean 'iris'\?"):
        protocol("irsi+noise0.1")
