"""Where the ranks of one machine meet: a key-value store of torchrun that listens on 127.0.0.1 alone.

torchrun's own rendezvous listens on every address of the machine, and whoever reaches it may write into it.
Use: `LaunchConfig(rdzv_backend=loopback.BACKEND, ...)`, with `loopback.interfaces()` in the ranks' environment.
"""

import os
import socket
import sys
from functools import cache

from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo, rendezvous_handler_registry

ADDRESS = "127.0.0.1"

BACKEND = "loopback"


class Loopback(RendezvousHandler):
    """Torchrun's view of it: one node, which is this one, and a store that the ranks share."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        listening = socket.create_server((ADDRESS, 0))
        self.port: int = listening.getsockname()[1]
        self._store = TCPStore(
            ADDRESS, self.port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )

    def get_backend(self) -> str:
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        store = PrefixStore(self._run_id, self._store)
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo(ADDRESS, self.port))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """Nobody else could join."""

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._run_id

    def shutdown(self) -> bool:
        return True


@cache
def register() -> None:
    """Let torchrun know the backend, once a process."""

    def create(parameters: RendezvousParameters) -> RendezvousHandler:
        return Loopback(parameters.run_id)

    rendezvous_handler_registry.register(BACKEND, create)


def interfaces() -> dict[str, str]:
    """Variables that keep gloo's and NCCL's own sockets on the loopback interface; what is set already stays."""
    name = "lo" if sys.platform == "linux" else "lo0"
    return {key: os.environ.get(key) or name for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
