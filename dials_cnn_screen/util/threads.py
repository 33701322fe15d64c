"""How many threads torch computes with, beside cctbx in one process."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence

# Options with which a program shows its help or parameters and ends.
_HELP = {"-h", "--help", "-c", "--show-config"}
# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def needs_torch(arguments: Sequence[str]) -> bool:
    """Whether a program that trains does so with these arguments, or shows its help.

    It then has to import torch before DIALS: see use_threads.
    """
    return bool(arguments) and _HELP.isdisjoint(arguments)


def use_threads(n: int) -> int:
    """Let torch compute with n threads, or with one where n would give wrong numbers.

    Some builds of cctbx (Debian's) have a library, libomptbx, with a stand-in for
    OpenMP in which each thread is number 0 of 1. A torch that is imported after it
    binds to the stand-in: of several threads each then does the same part of the work,
    and FFTs and sums are wrong without a word. Imported before, it is not touched.

    Returns:
        The number of threads in use.
    """
    import torch

    torch.set_num_threads(n)
    if torch.get_num_threads() != n:
        torch.set_num_threads(1)
    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let the C library keep the memory of images for those that follow.

    glibc gives large arrays back to the system as they are freed, which then clears
    their pages anew for each image or batch: half the time of training the paper's
    network on a CPU, a seventh of screening. In training the process then has up to
    twice the memory. All threads share one heap, so that a thread that reads gets what
    another has freed. Nothing on other systems.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
