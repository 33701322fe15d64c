from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("dials")
pytest.importorskip("wx")

from dials_cnn_screen.viewer.stock_viewer import StockViewer


class Slip:
    """What StockViewer looks at of the viewer's map to draw overlays."""

    def __init__(self, **painters):
        self.drawn = []
        self.layer_mapping = {
            name: SimpleNamespace(name=f"<{name}>", painter=painter, data=name)
            for name, painter in painters.items()
        }

    def Draw(self, dc):
        for layer in self.layer_mapping.values():
            layer.painter(dc, layer.data, map_rel=True)


def test_overlay_that_cannot_be_drawn_is_left_out(caplog):
    def fail(dc, data, map_rel):
        raise TypeError("DC.DrawCircle(): arguments did not match\n  overload 1")

    def draw(dc, data, map_rel):
        slip.drawn.append(data)

    slip = Slip(vectors=fail, circles=draw)
    viewer = StockViewer(SimpleNamespace(images=[], pyslip=slip))
    with pytest.raises(TypeError):
        slip.Draw(None)
    with viewer.safe_overlays(), caplog.at_level(logging.WARNING):
        slip.Draw(None)
        slip.Draw(None)
    assert slip.drawn == ["circles"] * 2
    assert caplog.messages == [
        "The viewer can't draw vectors: DC.DrawCircle(): arguments did not match"
    ]
    # Afterwards all is as it was.
    with pytest.raises(TypeError):
        slip.Draw(None)
