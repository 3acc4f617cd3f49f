"""The mode of episodes that were played already: recorded, evaluated, imagined. No emulator's draws are read anew.

Letters: H, W pixels.
"""

from pipelines.errors import UsageError
from pipelines.play.episodes import require_step
from pipelines.play.in_game import reconstructed
from pipelines.play.mode import Shown, words
from pipelines.play.source import PlaySource, Start


class EpisodesMode:
    """Picture: what the agent was `given`; with reconstruction what its tokenizer makes of it too.

    Raises UsageError where there is no episode of the kind that the source begins with.
    """

    name, asks = "episodes", False

    def __init__(self, source: PlaySource) -> None:
        self.actions, self._source = source.actions, source
        self.sets, start = tuple(source.sets), source.start
        if start.episode is None:  # nobody said where: at the first of what there is
            start = Start(0, 0, start.of if start.of in source.sets else next(iter(source.sets), start.of))
        source.episodes(start.of)
        self._start, self.of = start, start.of
        self._episode, self._step, self._total = start.episode or 0, start.step, 0.0

    @property
    def lengths(self) -> tuple[int, ...]:
        """See `Browsing`."""
        return self._source.sets[self.of].lengths

    def reset(self, seed: int | None = None) -> Shown:
        """Go where the source begins; nothing is drawn."""
        self.of = self._start.of
        return self.seek(self._start.episode or 0, self._start.step)

    def choose(self, of: str) -> Shown:
        """See `Browsing`."""
        self._source.episodes(of)
        self.of = of
        return self.seek(0, 0)

    def seek(self, episode: int, step: int) -> Shown:
        """See `Browsing`."""
        episodes = self._source.sets[self.of]
        require_step(self.of, episodes, episode, step)
        self._episode, self._step = episode, step
        self._total = episodes.earned(episode, step)
        return self._shown()

    def step(self, action: int | None) -> Shown:
        """The next step; behind an episode's last one the next episode's first, and the first's behind the last."""
        if self._step + 1 >= self.lengths[self._episode]:
            return self.seek((self._episode + 1) % len(self.lengths), 0)
        self._step += 1
        return self._shown()

    def close(self) -> None:
        """See `Mode`. The sets belong to who made the source."""

    def _shown(self) -> Shown:
        length, source = self.lengths[self._episode], self._source
        piece = source.sets[self.of].read(self._episode, self._step, self._step + 1)
        reward = float(piece.rewards[0])
        self._total += reward
        pictures = {"given": piece.frames[0]}
        if source.reconstruction:
            if piece.frames.shape[1:] != source.rules.frame[: piece.frames.ndim - 1]:
                raise UsageError(f"These {self.of} episodes are not what this agent sees: leave --reconstruction out")
            pictures["tokenizer"] = reconstructed(source, piece.frames[0])
        facts = {"from": f"{self.of} episode {self._episode} of {len(self.lengths)}", "length": f"{length} steps"}
        action, ended = source.told(piece.actions[0]), self._step + 1 == length
        facts |= words(action)
        return Shown(pictures, self._step, action, reward, self._total, ended, None, facts)
