"""Lightning Fabric as a training needs it: one device, or one device in each of several processes."""

from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from rsfm.blocks.ranks import rank, ranks
from rsfm.devices import precision


class Joined(ClusterEnvironment):
    """Processes that have met already, each with one device; where they run makes no difference."""

    creates_processes_externally = True
    main_address = ""
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return ranks() > 1

    def world_size(self) -> int:
        return ranks()

    def set_world_size(self, size: int) -> None:
        """Leave it as it is."""

    def global_rank(self) -> int:
        return rank()

    def set_global_rank(self, rank: int) -> None:
        """Leave it as it is."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return rank()


def make_fabric(device: str, arithmetic: Any = None) -> Fabric:
    """Make Fabric for a device, and for all processes that have met.

    Gradients are averaged over the processes. Buffers are not sent around: the methods keep them alike. A parameter may
    have no gradient, such as frozen prototypes.

    Args:
        arithmetic: a precision of Fabric's; None takes the best of the device.
    """
    kind, _, index = device.partition(":")
    options: dict[str, Any] = {"accelerator": kind, "devices": [int(index)] if index else 1}
    options["precision"] = arithmetic or precision(device)
    if ranks() == 1:
        return Fabric(**options)
    strategy = DDPStrategy(
        cluster_environment=Joined(),
        find_unused_parameters=True,
        broadcast_buffers=False,
        process_group_backend=torch.distributed.get_backend(),
    )
    fabric = Fabric(**options, strategy=strategy, num_nodes=ranks())
    fabric.launch()
    return fabric
