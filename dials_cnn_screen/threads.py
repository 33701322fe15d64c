"""How many threads torch computes with, beside cctbx in one process."""

from __future__ import annotations

import torch


def use_threads(n: int) -> int:
    """Let torch compute with n threads, or with one where n would give wrong numbers.

    Some builds of cctbx (Debian's) have a library, libomptbx, with a stand-in for
    OpenMP in which each thread is number 0 of 1. A torch that is imported after it
    binds to the stand-in: of several threads each then does the same part of the work,
    and FFTs and sums are wrong without a word. Imported before, it is not touched.

    Returns the number of threads in use.
    """
    torch.set_num_threads(n)
    if torch.get_num_threads() != n:
        torch.set_num_threads(1)
    return torch.get_num_threads()
