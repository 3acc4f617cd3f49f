"""The sources of replay side by side, from an emulated gs:// bucket behind a proxy that misbehaves.

`python -m tests.buckets.sources_table FOLDER` prints the table of BENCHMARKS.md. Real frames of Seaquest are played
into FOLDER first and kept there: as logs of a ring, and the same episodes as shards. Every figure is of a process of
its own, with ranges of 256 KiB; every result has the bytes of an undisturbed one, or the script fails.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.progress import size
from pipelines.sources.dqn_replay.listing import file_name as log_name
from pipelines.sources.dqn_replay.listing import log_folder
from pipelines.sources.rlu.listing import file_name as shard_name
from pipelines.tools.bench.replay_data import Data, Sizes
from tests.buckets.faults import Fault, FaultProxy
from tests.buckets.servers import EmulatedBucket, gcs_server
from tests.fakes import wait_for
from tests.pipelines.sources.rlu.shards import Truth, write_shard

GAME, FILES = "Seaquest", 4
SIZES = Sizes(games=(GAME,), steps=10_000, objects=FILES, rows=20_000, bucket_game=GAME)
BLANKS = 3  # rows before each episode of a log
TRANSITIONS = 10_000
FAULTS = ("flip", "cut", "reset", "short", "status", "stall", "slow")

PROGRAM = """
import json, sys, time
from pathlib import Path
from pipelines.bucket import bucket_object
from pipelines.graph.fetch_estimate import prospect
from pipelines.graph.make import make
from pipelines.graph.plan import Plan, Step
from pipelines.recipes.registry import recipe
from pipelines.store.profile import Profile
from pipelines.store.store import Store

game, transitions, url, options, layout, home, until = sys.argv[1:]
bucket_object.CHUNK = 1 << 18
profile = Profile("child", url, options=json.loads(options), layout=layout)
store = Store(Path(home), profile=profile)
changes = ["source=bucket", f"games={game}", "agents=1", f"downsample.transitions={transitions}"]
plan, files, began = Plan(recipe("mini", changes), url, profile), {}, time.monotonic()
if until == "plan":
    prospect(plan, store)
for step in (Step("replay", game, 1), Step("trajectories", game))[: ["plan", "replay", "trajectories"].index(until)]:
    made = make(plan, step, store).artefact
    files |= {entry.path: entry.sha256 for entry in made.manifest.files if entry.path != "objects.json"}
seconds = time.monotonic() - began
faults = [fault for artefact in store.artefacts() for fault in artefact.faults(rehash=True)]
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(json.dumps({"seconds": seconds, "files": files, "faults": faults, "peak": int(peak) / 1e3}))
"""


@dataclass
class Side:
    """One source: its files, and the bucket that holds them."""

    name: str
    layout: str
    folder: Path
    victim: str  # the object that faults befall
    bucket: EmulatedBucket
    proxy: FaultProxy

    def command(self, home: Path, until: str) -> list[str]:
        options = json.dumps(self.bucket.options(self.proxy.endpoint, timeout=2.0))
        given = [GAME, str(TRANSITIONS), self.bucket.root_url, options, self.layout, str(home), until]
        return [sys.executable, "-c", PROGRAM, *given]

    def run(self, home: Path, until: str = "trajectories") -> dict[str, Any]:
        done = subprocess.run(self.command(home, until), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.name}, {until}: {done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def row(self, home: Path) -> tuple[str, ...]:
        """The cells of the table. Raises SystemExit where a figure would be of a wrong result."""
        plan = self.run(home / "plan", "plan")
        planned = self.proxy.sent()
        self.proxy.clear()
        fetch = self.run(home / "fetch", "replay")
        both = self.run(home / "fetch")
        read = self.proxy.sent()
        again = self._after_a_kill(home / "killed", both)
        survived = sum(self._survives(kind, home / kind, both) for kind in FAULTS)
        if both["faults"]:
            raise SystemExit(f"{self.name}: {both['faults']}")
        seconds = fetch["seconds"] + both["seconds"]
        return (
            self.name,
            f"{plan['seconds']:.1f} s, {size(planned)}",
            f"{fetch['seconds']:.1f} s",
            f"reads {size(again)} again of {size(self.bytes)}",
            f"{len(both['files'])} files sound",
            f"{survived} of {len(FAULTS)}",
            f"{read / 1e6 / seconds:.1f}",
            f"{max(fetch['peak'], both['peak']):.0f}",
        )

    def _after_a_kill(self, home: Path, right: dict[str, Any]) -> int:
        """Bytes that the second run reads of what the first had read when it was killed in its last file."""
        self.proxy.clear()
        self.proxy.add(Fault("stall", match=self.victim, skip=1, seconds=8.0))
        child = subprocess.Popen(self.command(home, "trajectories"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: self.proxy.struck("stall") == 1, 120)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        first = self.proxy.sent()
        self.proxy.clear()
        found = self.run(home)
        if found["files"] | right["files"] != found["files"]:
            raise SystemExit(f"{self.name}: other bytes after a kill")
        return max(0, first + self.proxy.sent() - self._undisturbed)

    _undisturbed = 0

    def _survives(self, kind: str, home: Path, right: dict[str, Any]) -> bool:
        self.proxy.clear()
        self.proxy.add(Fault(kind, match=self.victim, skip=1, status=429, seconds=3.0))
        found = self.run(home)
        return self.proxy.struck(kind) == 1 and found["files"] == right["files"] and not found["faults"]


def episodes(log: dict[str, np.ndarray], checkpoint: int) -> Iterator[Truth]:
    """The whole episodes of a played log, without the blank rows before them."""
    start = 0
    for number, end in enumerate(np.flatnonzero(log["terminal"]).tolist()):
        rows = slice(start + BLANKS, end + 1)
        frames = log["observation"][rows]
        shown = np.concatenate([frames, frames[-1:]])  # the ring holds no terminal frame
        rewards = log["reward"][rows].astype(np.float32)
        yield Truth(checkpoint, number, shown, log["action"][rows], rewards, True)
        start = end + 1


def write_shards(data: Data, folder: Path) -> Path:
    """Both agents' episodes, in FILES shards of one run."""
    if not folder.exists():
        aside = folder.with_suffix(".partial")
        played = [each for log in data.fresh(GAME) for each in episodes(log, 0)]
        for shard in range(FILES):
            mine = [
                Truth(shard, number, *(getattr(each, name) for name in ("frames", "actions", "rewards")), True)
                for number, each in enumerate(played[shard::FILES])
            ]
            write_shard(aside / GAME / shard_name(1, shard, FILES), mine)
        aside.replace(folder)
    return folder


def main(folder: Path) -> None:
    """Print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    data = Data(folder, SIZES)
    logs, shards = data.bucket_folder(), write_shards(data, folder / "shards")
    sides = [
        ("dqn-replay", "dqn_replay", logs, f"{log_folder(GAME, 1)}/{log_name('observation', FILES - 1)}"),
        ("rlu", "rl_unplugged", shards, f"{GAME}/{shard_name(1, FILES - 1, FILES)}"),
    ]
    print("| source | plan | fetch | killed in its last file | verify | faults survived | MB/s | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    with gcs_server() as server, tempfile.TemporaryDirectory() as home, FaultProxy(server.endpoint) as proxy:
        for name, layout, files, victim in sides:
            bucket = server.bucket()
            bucket.put_folder(files)
            side = Side(name, layout, files, victim, bucket, proxy)
            proxy.clear()
            side.run(Path(home) / name / "undisturbed")
            side._undisturbed = proxy.sent()
            proxy.clear()
            print(f"| {' | '.join(side.row(Path(home) / name))} |", flush=True)


if __name__ == "__main__":
    began = time.monotonic()
    main(Path(sys.argv[1]))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
