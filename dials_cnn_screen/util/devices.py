"""Which GPU a process uses, whether there are kernels for it, values in its memory."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# Where MPI and batch systems say which process of its machine one is.
_LOCAL_RANK = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "SLURM_LOCALID",
    "LOCAL_RANK",
)


def local_rank() -> int:
    """Which process of its machine this one is, from 0."""
    for name in _LOCAL_RANK:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    # A worker of multiprocessing is numbered from 1.
    from multiprocessing import current_process

    identity = current_process()._identity
    return identity[-1] - 1 if identity else 0


def may_have_gpu() -> bool:
    """Whether this machine may have a GPU that torch can use; without torch's import.

    On Linux drivers make files for NVIDIA's, AMD's and those of Windows's Linux.
    """
    if not sys.platform.startswith("linux"):
        return True
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


def use_card() -> str:
    """The GPU of this process, made torch's current one: "cuda:1".

    Processes of a machine share its cards, the first the first one.
    """
    import torch

    index = local_rank() % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def can_compile_kernels() -> bool:
    """Whether Triton is there, as with torch for CUDA."""
    return importlib.util.find_spec("triton") is not None


def take(values: NDArray | torch.Tensor, indices: NDArray[np.int64]) -> torch.Tensor:
    """A copy of some elements along the first axis, on the device of the values.

    Args:
        values: (n, ...), an array or a tensor.
        indices: int64 (m,).

    Returns:
        (m, ...).
    """
    import torch

    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(indices).to(values.device)]
    return torch.from_numpy(values[indices])
