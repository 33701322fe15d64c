"""cnn_live.html and cnn_live.json: what a live run has come to, every few seconds."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dials_cnn_screen.live.account import Account
from dials_cnn_screen.live.run import LiveRun
from dials_cnn_screen.outputs.figures import draw_rates
from dials_cnn_screen.outputs.gallery import Failure, Picture, make_picture
from dials_cnn_screen.outputs.page import COLOURS, svg_figure, write_page
from dials_cnn_screen.outputs.pictures import EDGE
from dials_cnn_screen.screening.decision import Decision, format_decision
from dials_cnn_screen.screening.results import ModelSummary
from dials_cnn_screen.util.errors import one_line
from dials_cnn_screen.util.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger("dials.cnn_live")


def write_status(path: str | Path, status: dict[str, Any]) -> None:
    """Write the status file; status: of Account.as_json."""
    with replacing(path) as unfinished:
        text = json.dumps(status, indent=1, allow_nan=False) + "\n"
        Path(unfinished).write_text(text, encoding="utf-8")


def write_live_page(
    path: str | Path,
    status: dict[str, Any],
    account: Account,
    run: LiveRun,
    model: ModelSummary,
    decision: Decision,
    every: float,
    citation: str,
) -> None:
    """Write the page.

    Args:
        path: Of the file.
        status: Of Account.as_json.
        account, run, model, decision: Of the run.
        every: Seconds after which the page reloads, while the run goes on.
        citation: At the foot of the page.
    """
    images = status["images"]
    write_page(
        path,
        "cnn_live.html",
        status=status,
        reload=math.ceil(every) if status["state"] == "running" else None,
        hit_percent=account.rate.percent if account.rate.images else 0.0,
        numbers=_list_numbers(status),
        warnings=_list_warnings(status),
        colours=COLOURS,
        model=model,
        decision=format_decision(decision),
        figure=svg_figure(_draw, account),
        pictures=_draw_hits(run, model),
        edge=EDGE,
        failed=[Failure(r.name, str(r.error)) for r in reversed(account.failed)],
        n_failed=images["not_classified"],
        citation=citation,
    )


def _list_numbers(status: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Title, value and remark of what stands at the top."""
    images, behind, latency = status["images"], status["behind"], status["latency"]
    low, high = status["hit_rate"]["interval"]
    recent = status["recent"]
    numbers = [
        ("Hit", str(images["hit"]), f"95%: {low:.1f} to {high:.1f}%"),
        ("Maybe", str(images["maybe"]), ""),
        ("Miss", str(images["miss"]), ""),
        ("Kept", str(images["kept"]), f"{images['not_classified']} not classified"),
        (
            "Recent hits",
            str(recent["hits"]),
            f"of the last {recent['images']} classified images",
        ),
        (
            "Behind",
            f"{behind['seconds']:.1f} s",
            f"{behind['images']} images wait; "
            f"{status['classified_per_second']:.1f} images/s",
        ),
    ]
    if latency:
        median, p99 = 1e3 * latency["median"], 1e3 * latency["p99"]
        remark = f"99th percentile {p99:.0f} ms, from arrival to result"
        numbers.append(("Latency", f"{median:.0f} ms", remark))
    return numbers


def _list_warnings(status: dict[str, Any]) -> list[str]:
    """Sentences on images that are not as they should be."""
    warnings, images = [], status["images"]
    if n := images["queue_full"]:
        warnings.append(
            f"{n} images came faster than they were classified and are kept as they "
            "are: give more processors, or screen the files with dials.cnn_screen."
        )
    for fault, found in status["faults"].items():
        if found["number"]:
            names = ", ".join(found["latest"])
            warnings.append(f"{found['number']} {fault}: {names}.")
    return warnings


def _draw(axes: Axes, account: Account) -> None:
    """Rates of hits and of kept images over the time of the run."""
    draw_rates(axes, *account.in_blocks())
    axes.set_xlabel("minutes from the start")


def _draw_hits(run: LiveRun, model: ModelSummary) -> list[Picture]:
    """Pictures of the latest hits, the newest first."""
    pictures = []
    for result, frame in reversed(list(run.latest_hits)):
        try:
            pictures.append(make_picture(result, result.name, frame, model.max_spots))
        except Exception as error:  # a picture is no reason to end a run
            logger.warning("no picture of %s: %s", result.name, one_line(error))
    return pictures


def format_state(status: dict[str, Any]) -> str:
    """The state in one line, for the log."""
    images, behind = status["images"], status["behind"]
    return (
        f"{images['done']} images, {images['hit']} hits, {images['not_classified']} "
        f"not classified; {status['classified_per_second']:.1f} images/s; "
        f"{behind['images']} images wait"
    )
