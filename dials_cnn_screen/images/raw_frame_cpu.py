"""Where the blocks of a compressed image are, by numba."""

from __future__ import annotations

from dials_cnn_screen.util.compiled import njit


@njit()
def find_blocks(chunk, n_bytes, shuffled_bytes, block_bytes, places):
    """Find the blocks of LZ4 by the sizes that stand before them: RawFrame.find_blocks.

    Args:
        chunk: uint8 (n,), a compressed image as raw_frame.py describes it.
        n_bytes, shuffled_bytes, block_bytes: As the encoding has them.
        places: int32 (blocks + 1, 2), first byte in the chunk and number of bytes of
            each block, and of the pixels that are as they are; written to.

    Returns:
        Whether the chunk has just these blocks.
    """
    n_blocks = len(places) - 1
    if len(chunk) < 12 or _number(chunk, 0, 8) != n_bytes:
        return False
    if _number(chunk, 8, 4) != block_bytes:
        return False
    at = 12
    for i in range(n_blocks):
        if at + 4 > len(chunk):
            return False
        size = _number(chunk, at, 4)
        at += 4
        if size > len(chunk) - at:
            return False
        places[i, 0], places[i, 1] = at, size
        at += size
    places[n_blocks, 0], places[n_blocks, 1] = at, len(chunk) - at
    return len(chunk) - at == n_bytes - shuffled_bytes


@njit()
def _number(chunk, at, size):
    """The number in some bytes, the greatest first."""
    number = 0
    for i in range(at, at + size):
        number = 256 * number + chunk[i]
    return number
