"""The ranks' store can be reached from this machine alone, and torchrun takes it for a rendezvous."""

import datetime
import os

import psutil
import pytest
from torch.distributed import TCPStore
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.api import rendezvous_handler_registry

from pipelines.training.distributed import loopback


def test_it_listens_on_loopback_alone() -> None:
    loopback.register()
    loopback.register()  # once is enough, twice does no harm
    parameters = RendezvousParameters(loopback.BACKEND, "", "run", 1, 1)
    handler = rendezvous_handler_registry.create_handler(parameters)
    assert isinstance(handler, loopback.Loopback)
    sockets = psutil.Process(os.getpid()).net_connections("tcp")
    ours = [each for each in sockets if each.status == psutil.CONN_LISTEN and each.laddr.port == handler.port]
    assert [each.laddr.ip for each in ours] == ["127.0.0.1"]

    met = handler.next_rendezvous()
    assert (met.rank, met.world_size, handler.use_agent_store) == (0, 1, True)
    assert met.bootstrap_store_info is not None
    address, port = met.bootstrap_store_info.master_addr, met.bootstrap_store_info.master_port
    client = TCPStore(address, port, is_master=False, timeout=datetime.timedelta(seconds=20))
    client.set("word", "heard")
    assert handler._store.get("word") == b"heard"
    assert not handler.is_closed() and handler.num_nodes_waiting() == 0 and handler.shutdown()


def test_interfaces_that_somebody_chose_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    found = loopback.interfaces()
    assert found["NCCL_SOCKET_IFNAME"] == "eth7" and found["GLOO_SOCKET_IFNAME"].startswith("lo")
