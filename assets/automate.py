"""`worldline automate`: what runs by itself, and its switches; the same ones as on the page Automation of the UI.

They lie in Dagster's instance. A daemon that runs sees them within half a minute, one that starts finds them so.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from rich.table import Table

from assets.automation import SCHEDULES, SENSORS
from assets.definitions import defs
from assets.instance import open_instance
from pipelines.errors import unknown
from pipelines.home import server
from pipelines.progress import printer

MODULE, LOCATION = "assets.definitions", "worldline"  # as every workspace of ours says
ON, OFF, STATUS = "on", "off", "status"
ALL: list[dg.ScheduleDefinition | dg.SensorDefinition] = [*SCHEDULES, *SENSORS]
EVERY = {each.name: each for each in ALL if each.default_status.value == "STOPPED"}  # of ours one is always on


def automate(to: str, names: Sequence[str]) -> int:
    """Switch automations on or off, all or those named; say how all of them are.

    Raises UsageError for another word, and for an unknown name.
    """
    names = _known(names)
    if to not in (ON, OFF, STATUS):
        raise unknown("action", to, (ON, OFF, STATUS), "'worldline automate --help' explains them")
    with open_instance() as instance:
        for name in names if to != STATUS else ():
            switch(instance, name, to == ON)
        view = Table("automation", "is", "when", "does", box=None, header_style="bold")
        for name, each in EVERY.items():
            view.add_row(name, ON if is_on(instance, name) else OFF, _when(each), str(each.description))
        anything = any(is_on(instance, name) for name in EVERY)
    printer().print(view, soft_wrap=True)
    if anything and not (url := server()):
        print("Nothing happens before 'worldline ui' runs: its daemon does what is on.")
    elif anything:
        print(f"The daemon of {url} does what is on.")
    return 0


def switch(instance: dg.DagsterInstance, name: str, on: bool) -> None:
    """As a click in the UI would. What is so already stays so."""
    remote = _remote(name)
    if isinstance(EVERY[name], dg.ScheduleDefinition):
        if on:
            instance.start_schedule(remote)
        else:
            instance.stop_schedule(remote.get_remote_origin_id(), remote.selector_id, remote)
    elif on:
        instance.start_sensor(remote)
    else:
        instance.stop_sensor(remote.get_remote_origin_id(), remote.selector_id, remote)


def is_on(instance: dg.DagsterInstance, name: str) -> bool:
    """What the instance says, whoever switched."""
    remote = _remote(name)
    stored = instance.get_instigator_state(remote.get_remote_origin_id(), remote.selector_id)
    return bool(remote.get_current_instigator_state(stored).is_running)


def _known(names: Sequence[str]) -> list[str]:
    """The automations of these names, all without any. Raises UsageError with the nearest name."""
    for name in names:
        if name not in EVERY:
            raise unknown("automation", name, EVERY, "'worldline automate' prints them")
    return list(names or EVERY)


def _when(each: dg.ScheduleDefinition | dg.SensorDefinition) -> str:
    if isinstance(each, dg.ScheduleDefinition):
        return f"{each.cron_schedule} UTC"
    return f"every {each.minimum_interval_seconds} s"


def _remote(name: str) -> Any:
    """A schedule or sensor as the daemon knows it, by our code location; no server is started to ask.

    What is imported here is not public; the version of Dagster is pinned, and a test has a daemon obey this.
    """
    from dagster._core.remote_representation.external import RemoteSchedule, RemoteSensor
    from dagster._core.remote_representation.external_data import ScheduleSnap, SensorSnap
    from dagster._core.remote_representation.handle import RepositoryHandle
    from dagster._core.workspace.load_target import ModuleTarget

    repository, each = defs.get_repository_def(), EVERY[name]
    [origin] = ModuleTarget(MODULE, None, None, LOCATION).create_origins()
    handle = RepositoryHandle(
        repository_name=repository.name,
        code_location_origin=origin,
        repository_python_origin=None,
        display_metadata={},
    )
    if isinstance(each, dg.ScheduleDefinition):
        return RemoteSchedule(ScheduleSnap.from_def(each, repository), handle)
    return RemoteSensor(SensorSnap.from_def(each, repository), handle)
