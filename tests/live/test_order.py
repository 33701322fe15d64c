"""Images of a series that do not come once each and in order."""

from __future__ import annotations

from dials_cnn_screen.live.order import SeriesOrder


def test_in_order():
    order = SeriesOrder(1)
    assert [order.add(i) for i in (1, 2, 3)] == ["new"] * 3
    order.end(3)
    assert order.missing() == 0
    assert order.missing_names() == []


def test_gaps_late_and_repeated():
    order = SeriesOrder(1)
    came = " ".join(order.add(i) for i in (2, 2, 6, 1, 1, 4, 4, 9))
    assert came == "new repeated new late repeated late repeated new"
