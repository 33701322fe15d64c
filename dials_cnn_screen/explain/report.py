"""cnn_explain.html: one page, self-contained, on why images were classified so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dials_cnn_screen import __version__
from dials_cnn_screen.explain.reasons import Reason, mark_colour
from dials_cnn_screen.explain.results import ImageOnMap, MapResults
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.labels.label import Label, count_labels, format_counts
from dials_cnn_screen.outputs.gallery import Picture, make_picture, name_failures
from dials_cnn_screen.outputs.page import COLOURS, write_page
from dials_cnn_screen.outputs.pictures import EDGE

# Pictures in a gallery.
_PICTURES = 12
# Steps of the colour bar below a map.
_SHADES = 9


def write_explanation(
    path: str | Path,
    results: MapResults,
    reasons: Sequence[Reason],
    nearest_to: int | None,
    citation: str,
) -> None:
    """Write the page.

    Args:
        path: Of the page.
        results: All that were screened.
        reasons: Of some of them.
        nearest_to: Index of the image whose neighbours are shown.
        citation: Stands at the end of the page.
    """
    images = results.images
    write_page(
        path,
        "cnn_explain.html",
        version=__version__,
        model=results.model,
        summary=results.summary(),
        counts=format_counts(
            count_labels(i.result.label for i in images if i.result.label is not None)
        ),
        n_misclassified=sum(image.misclassified for image in images),
        map=results.map_as_json(),
        points=_points(results),
        reasons=reasons,
        mark_colour=mark_colour,
        galleries=_galleries(results, nearest_to),
        failed=name_failures(
            [image.result for image in images], [image.name for image in images]
        ),
        class_colours={label.title: COLOURS[label.title] for label in Label},
        shades=[_shade(i / (_SHADES - 1)) for i in range(_SHADES)],
        edge=EDGE,
        citation=citation,
    )


def _points(results: MapResults) -> list[dict[str, Any]]:
    """The images on the map as JSON: what the page shows of each, its two colours."""
    points = []
    for image in results.images:
        result, label = image.result, image.label
        if image.position is None or result.prediction is None:
            continue
        by_class = COLOURS[result.title]
        if results.labelled:
            by_class = "none" if label is None else COLOURS[label.title]
        points.append(
            {
                "name": str(image.name),
                "index": image.index,
                "class": result.title,
                "label": None if label is None else label.title,
                "out_of_distribution": result.out_of_distribution,
                "p": result.prediction.probabilities.tolist(),
                "x": image.position[0],
                "y": image.position[1],
                "by_class": by_class,
                "by_p_keep": _shade(result.p_keep),
                "thumbnail": image.thumbnail,
            }
        )
    return points


def _shade(share: float) -> str:
    """A colour for 0 to 1, which colour-blind people see as well."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](share))


def _galleries(results: MapResults, nearest_to: int | None) -> list[dict[str, Any]]:
    """The nearest to an image, the most doubtful, the misclassified."""
    max_spots, source = results.model.max_spots, Source()

    def show(image: ImageOnMap, distance: float | None = None) -> Picture:
        return _picture(image, source.read(image.still), max_spots, distance)

    galleries = []
    by_index = {image.index: image for image in results.images}
    if nearest_to is not None and by_index[nearest_to].nearest:
        image = by_index[nearest_to]
        galleries.append(
            {
                "title": f"Nearest to {image.name} (shown first)",
                "total": 1 + len(image.nearest),
                "pictures": [
                    show(image),
                    *(show(by_index[n.index], n.distance) for n in image.nearest),
                ],
            }
        )
    kinds = {"Most doubtful": results.by_doubt(), **results.misclassified()}
    galleries += [
        {
            "title": title,
            "total": len(images),
            "pictures": [show(image) for image in images[:_PICTURES]],
        }
        for title, images in kinds.items()
        if images
    ]
    return galleries


def _picture(
    image: ImageOnMap, frame: Frame, max_spots: int | None, distance: float | None
) -> Picture:
    """An image of a gallery, with its distance to the first one there."""
    note = f"index {image.index}"
    if distance is not None:
        note += f", distance {distance:.3g}"
    return make_picture(
        image.result,
        image.name,
        frame,
        max_spots,
        expert=image.label,
        note=note,
        kept_shown=False,
    )
