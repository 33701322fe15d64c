from __future__ import annotations

import pytest

from dials_cnn_screen.util.sampling import choose_evenly


@pytest.mark.parametrize(
    ("n", "most", "chosen"),
    [(0, 3, []), (2, 3, [0, 1]), (5, 3, [0, 2, 4]), (101, 2, [0, 100])],
)
def test_evenly_along_the_run(n, most, chosen):
    assert choose_evenly(range(n), most) == chosen
