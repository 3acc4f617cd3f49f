"""What `worldline play` puts on a page: one loaded agent, in whatever mode is asked for, and recordings of it."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.commands.play import give_name
from pipelines.errors import UsageError, WorldlineError
from pipelines.graph.experiment import Experiment
from pipelines.graph.make import pointer
from pipelines.graph.plan import Step
from pipelines.play.episodes import IMAGINED, EpisodeSet, ImaginedEpisodes
from pipelines.play.mode import RECORDING, Mode, Shown, modes_of, open_mode
from pipelines.play.server import Port, serve
from pipelines.play.source import PlaySource, Start
from pipelines.play.taken import Taken
from pipelines.progress import say
from pipelines.stages.record import RecordConfig, keep, opened, source_of
from pipelines.store.store import Store


def show(found: Experiment, config: RecordConfig, store: Store, port: Port, browser: bool) -> None:
    """Serve what `config` says, from its mode on, until told to stop."""
    source = source_of(config, opened(config, store))
    source = replace(source, sets={**source.sets, **_imagined(found, config, store)})
    try:

        def open_at(name: str, start: Start) -> Mode:
            return open_mode(name, replace(source, start=start))

        def record(mode: Mode, start: Start, first: Shown) -> "Kept":
            return Kept(found, config, store, (mode, start, first))

        title = f"{found.name} · {config.game}"
        first = open_at(config.mode, source.start)
        serve(port, title, modes_of(config.game), first, open_at, record, source.start, browser)
    finally:
        close(source)


def _imagined(found: Experiment, config: RecordConfig, store: Store) -> dict[str, EpisodeSet]:
    """The dreams that were recorded of this experiment's game, where there are any; a damaged one is said."""
    beginning = f"{pointer(Step(config.STAGE, config.game), found)}/dream"  # dream-..., dream-agent-...
    named = [ref for name, ref in sorted(store.pointers().items()) if name.startswith(beginning)]
    dreams = [store.open(ref) for ref in dict.fromkeys(named) if store.holds(ref)]
    whole = []
    for dream in dreams:
        try:
            whole += [file] if ImaginedEpisodes([file := dream.path(RECORDING)]).lengths else []
        except WorldlineError as error:
            say(f"A recorded dream is left out: {error}")
    return {IMAGINED: ImaginedEpisodes(whole)} if whole else {}


def close(source: PlaySource) -> None:
    """Let go of what its modes share."""
    for episodes in source.sets.values():
        episodes.close()


class Kept:
    """A recording in the making; see `pipelines.play.session.Recording`."""

    def __init__(
        self, found: Experiment, config: RecordConfig, store: Store, begins: tuple[Mode, Start, Shown]
    ) -> None:
        mode, start, first = begins
        episode = -1 if start.episode is None else start.episode
        self._config = replace(config, mode=mode.name, episode=episode, step=start.step, of=start.of)
        self._taken, self._found, self._store = Taken(config.game, mode.actions, first), found, store

    def add(self, shown: Shown) -> None:
        """One step more. Raises UsageError where there are too many for one recording."""
        self._taken.add(shown)

    def save(self, places: Sequence[int]) -> str:
        """Make the artefact, and its name. Raises UsageError where nothing was played, WorldlineError of the store."""
        if not len(self._taken):
            raise UsageError("Nothing was played since this recording began: play a step, then stop it")
        made = keep(self._config, self._taken, places, self._store).artefact
        return give_name(self._found, self._config, self._store, made.ref)
