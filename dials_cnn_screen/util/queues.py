"""Which items a worker gets next: those of one file together, few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence


class WorkQueue:
    """Items of several files, handed out to workers as they get free.

    A worker gets the items of one file as long as it has any, so that each file is read
    by one worker where there are enough files. One whose file is done takes a file that
    nobody has, or shares the one with the most left.
    """

    def __init__(
        self, items: Iterable[int], files: Sequence[Hashable], n_workers: int
    ) -> None:
        """All items are there.

        Args:
            items: In order.
            files: The file of each item, whatever the item: ``files[item]``.
            n_workers: That share the items.
        """
        self._left: dict[Hashable, deque[int]] = {}
        for item in items:
            self._left.setdefault(files[item], deque()).append(item)
        self._owned: dict[Hashable, Hashable] = {}
        self._n_workers = n_workers

    def take(self, worker: Hashable, most: int) -> list[int]:
        """The next items for a worker, of one file; none where all are handed out.

        most: fewer near the end, so that all workers end together.
        """
        file = self._owned.get(worker)
        if file not in self._left:
            if not self._left:
                return []
            taken = set(self._owned.values())
            free = [f for f in self._left if f not in taken]
            file = free[0] if free else max(self._left, key=self._n_left)
            self._owned[worker] = file
        items = self._left[file]
        n_left = sum(map(len, self._left.values()))
        n = min(len(items), max(1, min(most, n_left // (4 * self._n_workers))))
        chunk = [items.popleft() for _ in range(n)]
        if not items:
            del self._left[file]
        return chunk

    def _n_left(self, file: Hashable) -> int:
        return len(self._left[file])
