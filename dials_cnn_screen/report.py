"""cnn_screen.html: one page, self-contained, on what a screening run came to."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.files import replacing
from dials_cnn_screen.frames import read_frame
from dials_cnn_screen.labels import Label
from dials_cnn_screen.preprocessing import Preprocessing, prepare
from dials_cnn_screen.stills import Still
from dials_cnn_screen.summary import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"Hit": "#1b7837", "Maybe": "#e08214", "Miss": "#8c8c8c", None: "#b2182b"}
_PICTURES = 4
# About as wide as the inspection area of section 3.3.1.
_PICTURE = Preprocessing(binning=2, size=480, contrast="linear")


def write_report(
    path: str | Path, results: dict, stills: Sequence[Still], citation: str
) -> None:
    """Write the report of results (in the form of cnn_screen.json)."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = results["summary"]
    rates = [
        {
            "title": title,
            "colour": COLOURS.get(title, "#333333"),
            "count": summary[key],
            "percent": 100 * summary[key] / summary["images"],
            "interval": [
                100 * x for x in wilson_interval(summary[key], summary["images"])
            ],
        }
        for title, key in (
            ("Hit", "hit"),
            ("Maybe", "maybe"),
            ("Miss", "miss"),
            ("Could not be judged", "failed"),
            ("Kept", "kept"),
        )
    ]
    html = environment.get_template("cnn_screen.html").render(
        results=results,
        rates=rates,
        scores_figure=_figure(_draw_scores, results),
        course_figure=_figure(_draw_course, results),
        galleries=_galleries(results, stills),
        failed=[image for image in results["images"] if image["error"] is not None],
        citation=citation,
    )
    with replacing(path) as unfinished:
        Path(unfinished).write_text(html, encoding="utf-8")


def _galleries(results: dict, stills: Sequence[Still]) -> list[dict]:
    """Pictures of the surest hits, the most doubtful images, and the surest misses."""
    judged = [image for image in results["images"] if image["error"] is None]
    score = {image["index"]: image["p_hit"] + image["p_maybe"] for image in judged}
    threshold = results["decision"]["threshold"]
    orders = (
        ("Surest hits", sorted(score, key=lambda i: -score[i])),
        (
            "Nearest to the threshold",
            sorted(score, key=lambda i: abs(score[i] - threshold)),
        ),
        ("Surest misses", sorted(score, key=lambda i: score[i])),
    )
    return [
        {
            "title": title,
            "pictures": [
                {"image": results["images"][i], "png": _picture(stills[i])}
                for i in order[:_PICTURES]
            ],
        }
        for title, order in orders
    ]


def _picture(still: Still) -> str:
    """The middle of a still at the viewer's default contrast, PNG in base64."""
    from matplotlib import image

    frame = read_frame(still.imageset, still.position)
    shade = prepare(frame.data, frame.mask, frame.beam_centre, _PICTURE)
    png = io.BytesIO()
    image.imsave(
        png, 1 - np.clip(shade, 0, 1), cmap="gray", vmin=0, vmax=1, format="png"
    )
    return base64.b64encode(png.getvalue()).decode()


def _figure(draw: Callable[[Axes, dict], None], results: dict) -> str:
    """A drawing of the results as SVG text to stand inside HTML."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure.add_subplot(), results)
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    text = svg.getvalue()
    return text[text.index("<svg") :]


def _draw_scores(axes: Axes, results: dict) -> None:
    """Histogram of P(Hit) + P(Maybe), by class, with the threshold."""
    judged = [image for image in results["images"] if image["error"] is None]
    by_class = [
        [i["p_hit"] + i["p_maybe"] for i in judged if i["class"] == label.title]
        for label in Label
    ]
    axes.hist(
        by_class,
        bins=np.linspace(0, 1, 41),
        stacked=True,
        color=[COLOURS[label.title] for label in Label],
        label=[label.title for label in Label],
    )
    axes.axvline(
        results["decision"]["threshold"], color="black", lw=1, label="threshold"
    )
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("P(Hit) + P(Maybe)")
    axes.set_ylabel("images")
    axes.legend(fontsize="small")


def _draw_course(axes: Axes, results: dict) -> None:
    """Fraction of hits and of kept images along the run, in some fifty steps."""
    images = results["images"]
    step = max(10, len(images) // 50)
    blocks = [images[i : i + step] for i in range(0, len(images), step)]
    where = [block[0]["index"] + len(block) / 2 for block in blocks]
    for name, colour, counts in (
        ("Hit", COLOURS["Hit"], [sum(i["class"] == "Hit" for i in b) for b in blocks]),
        ("kept", "#333333", [sum(i["kept"] for i in b) for b in blocks]),
    ):
        rate = np.array([c / len(b) for c, b in zip(counts, blocks, strict=True)])
        low, high = np.transpose(
            [wilson_interval(c, len(b)) for c, b in zip(counts, blocks, strict=True)]
        )
        axes.fill_between(where, 100 * low, 100 * high, color=colour, alpha=0.15, lw=0)
        axes.plot(where, 100 * rate, ".-", color=colour, label=name)
    axes.set_ylim(0, 100)
    axes.set_xlabel("image")
    axes.set_ylabel(f"% of {step} images")
    axes.legend(fontsize="small")
