"""Processes that read parts of the same batches tell each other which windows are refused.

Batches are read ahead, in threads and out of order, so what is told has a name and waits in a store of the first
process until all have read it.
"""

import json
import os
import threading
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from rsfm.blocks.ranks import rank, ranks
from rsfm.raster.window_batch import WHOLE, Part
from rsfm.raster.window_rules import Reason
from rsfm.rope import OUT_OF_STEP

LOOK_EVERY = timedelta(seconds=0.2)


class Store:
    """What is told, kept by the first process."""

    def __init__(self) -> None:
        host = os.environ["MASTER_ADDR"]
        self._store: Any = None
        port = [0]
        if rank() == 0:
            self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
            port = [self._store.port]
        distributed.broadcast_object_list(port, src=0, device=torch.device("cpu"))
        if self._store is None:
            self._store = TCPStore(host, port[0], is_master=False, wait_for_workers=False)
        self._own = threading.local()  # a client waits for one thing at a time, so each thread has one

    def exchange(self, about: tuple[Any, ...], refused: dict[int, Reason]) -> dict[int, Reason]:
        """Tell what is refused here, and return what all refuse, in the order of the windows."""
        if not hasattr(self._own, "store"):
            self._own.store = self._store.clone()
        store, name = self._own.store, "/".join(map(str, about))
        names = [f"{name}/{number}" for number in range(ranks())]
        store.set(names[rank()], json.dumps(refused))
        self._wait(store, names)
        found = [json.loads(told) for told in store.multi_get(names)]
        if store.add(f"{name}/read", 1) == ranks():
            for each in [*names, f"{name}/read"]:
                store.delete_key(each)
        return {int(number): reason for told in found for number, reason in told.items()}

    def _wait(self, store: Any, names: list[str]) -> None:
        """Wait until all have told, or this process is out of step with them."""
        while True:
            try:
                store.wait(names, LOOK_EVERY)
                return
            except distributed.DistStoreError:
                if OUT_OF_STEP.is_set():
                    raise


def part_of_batches() -> Part:
    """Return which windows of each batch this process reads."""
    return WHOLE if ranks() == 1 else Part(rank(), ranks(), Store().exchange)
