"""The one resource of the graph: this installation's store, experiments and storage profile."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from assets.orphans import alive
from pipelines import home as paths
from pipelines.errors import Members
from pipelines.graph.experiment import Experiment, find, registered
from pipelines.graph.make import plan_of
from pipelines.graph.plan import Plan
from pipelines.graph.recipe import Recipe
from pipelines.recipes.registry import recipe as named_recipe
from pipelines.store.profile import Profile
from pipelines.store.store import Store

STORAGE, REMAKE = "worldline/storage", "worldline/remake"


class Installation(dg.ConfigurableResource):
    """Empty fields mean WORLDLINE_HOME and WORLDLINE_STORAGE, read when an asset runs and not when this is loaded.

    The tags `worldline/storage` and `worldline/remake` of a run, which those of a backfill carry, count before these.
    """

    home: str = ""
    storage: str = ""
    remake: bool = False

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Installation"]:
        """Every run of ours asks for this resource: as long as it has it, its process counts as alive."""
        if context.run_id is None or context.instance is None:  # a sensor's look
            yield self
            return
        tags = context.run.tags if context.run is not None else {}
        with alive(context.instance, context.run_id):
            yield self.of_tags(tags)

    def of_tags(self, tags: Mapping[str, str]) -> "Installation":
        """As the tags of a run ask."""
        storage, remake = tags.get(STORAGE, self.storage), self.remake or REMAKE in tags
        return Installation(home=self.home, storage=storage, remake=remake)

    def environment(self) -> dict[str, str]:
        """The same to a child that shares our home."""
        storage = {"WORLDLINE_STORAGE": self.storage} if self.storage else {}
        return storage | ({paths.REMAKE: "1"} if self.remake else {})

    def folder(self) -> Path:
        """The home: store, experiments, Dagster's instance."""
        return Path(self.home).expanduser().absolute() if self.home else paths.home()

    def profile(self) -> Profile:
        """Where bytes live. Raises UsageError for an unknown profile."""
        return paths.current_profile(self.storage or None)

    def store(self) -> Store:
        """The artefact store. Raises WorldlineError when the profile puts it where no folder can be."""
        return paths.open_store(self.profile(), self.folder(), self.remake)

    def experiments(self, members: Members | None = None) -> list[Experiment]:
        """All registered experiments, by name; see `registered`."""
        return registered(self.folder() / "experiments", members)

    def experiment(self, name_or_key: str) -> Experiment:
        """A registered experiment. Raises UsageError with the nearest name."""
        return find(self.folder() / "experiments", name_or_key)

    def recipe(self, name: str, overrides: Sequence[str] = ()) -> Recipe:
        """A recipe by name, with overrides. Raises UsageError for an unknown name, field or value."""
        return named_recipe(name, overrides)

    def plan(self, recipe: Recipe) -> Plan:
        """Every stage's config of a recipe, reading the profile's bucket where the recipe does."""
        profile = self.profile()
        return Plan(recipe, profile.replay_root, profile)

    def plan_of(self, experiment: Experiment) -> Plan:
        """The same of an experiment, which goes on with what was made for it."""
        return plan_of(experiment, self.store())
