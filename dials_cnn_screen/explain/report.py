"""cnn_explain.html: one page, self-contained, on why images were judged so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dials_cnn_screen.explain.reasons import Reason
from dials_cnn_screen.explain.results import Look, by_doubt, score, wrong
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.outputs.page import COLOURS, write_page
from dials_cnn_screen.outputs.pictures import EDGE, card

# Pictures in a gallery.
_PICTURES = 12


def write_explanation(
    path: str | Path,
    results: dict,
    looks: Sequence[Look],
    reasons: Sequence[Reason],
    nearest_to: int | None,
    stills: Sequence[Still],
    citation: str,
) -> None:
    """Write the page of results (in the form of cnn_explain.json).

    looks: at the images of the results. nearest_to: index of the image whose nearest
    others are shown.
    """
    write_page(
        path,
        "cnn_explain.html",
        results=results,
        points=_points(results, looks),
        reasons=reasons,
        wrong=sum(len(images) for images in wrong(results).values()),
        galleries=_galleries(results, stills, nearest_to),
        failed=[image for image in results["images"] if image["error"] is not None],
        colours=COLOURS,
        shades=[_shade(i / 8) for i in range(9)],
        edge=EDGE,
        citation=citation,
    )


def _points(results: dict, looks: Sequence[Look]) -> list[dict]:
    """The images on the map: what the page shows of each, and its two colours."""
    return [
        {
            "name": f"{image['file']} [{image['frame']}]",
            "index": image["index"],
            "class": image["class"],
            "label": image["label"],
            "unlike": image["unlike_training"] is True,
            "p": [image["p_hit"], image["p_maybe"], image["p_miss"]],
            "x": image["x"],
            "y": image["y"],
            "by_class": COLOURS.get(image["label"] or "", "none")
            if results["summary"]["labelled"]
            else COLOURS[image["class"]],
            "by_score": _shade(score(image)),
            "thumbnail": sight.thumbnail,
        }
        for image, sight in zip(results["images"], looks, strict=True)
        if image["x"] is not None
    ]


def _shade(share: float) -> str:
    """A colour for 0 to 1, which colour-blind people see as well."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](share))


def _galleries(
    results: dict, stills: Sequence[Still], nearest_to: int | None
) -> list[dict]:
    """The nearest to an image, the most doubtful, the wrongly classified."""
    kinds = {"Most doubtful": by_doubt(results), **wrong(results)}
    sheets = [_sheet(title, kinds[title], results, stills) for title in kinds]
    if nearest_to is not None:
        sheets.insert(0, _nearest(results, stills, nearest_to))
    return [sheet for sheet in sheets if sheet["pictures"]]


def _nearest(results: dict, stills: Sequence[Still], index: int) -> dict:
    """An image and its nearest, with their distances."""
    by_index = {image["index"]: image for image in results["images"]}
    image = by_index[index]
    others = [by_index[near["index"]] for near in image["nearest"]]
    title = f"Nearest to {image['file']} [{image['frame']}], which is the first"
    sheet = _sheet(title, [image, *others] if others else [], results, stills)
    for picture, near in zip(sheet["pictures"][1:], image["nearest"], strict=False):
        picture["note"] += f", distance {near['distance']:.3g}"
    return sheet


def _sheet(
    title: str, images: Sequence[dict], results: dict, stills: Sequence[Still]
) -> dict:
    most_spots = results["model"]["most_spots"]
    pictures = [
        {
            **card(image, stills[image["index"]], most_spots),
            "note": f"index {image['index']}",
        }
        for image in images[:_PICTURES]
    ]
    return {"title": title, "total": len(images), "pictures": pictures}
