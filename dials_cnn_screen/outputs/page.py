"""What every HTML report is made of: one page, self-contained, with figures inside."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dials_cnn_screen.screening.results import FAILED
from dials_cnn_screen.util.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"Hit": "#1b7837", "Maybe": "#e08214", "Miss": "#8c8c8c", FAILED: "#b2182b"}


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Write an HTML page from a template of this package; values are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(**values)
    with replacing(path) as unfinished:
        Path(unfinished).write_text(html, encoding="utf-8")


def svg_figure(draw: Callable[[Axes, Any], None], results: Any) -> str:
    """A drawing of the results as SVG text to stand inside HTML."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure.add_subplot(), results)
    svg = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=nothing)
    text = svg.getvalue()
    return text[text.index("<svg") :]
