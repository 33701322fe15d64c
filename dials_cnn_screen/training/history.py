"""The course of a training run: its JSON, and drawn as in Fig. 8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dials_cnn_screen.labels.confusion import confusion_counts, hit_or_miss
from dials_cnn_screen.labels.splits import Parts, count_classes
from dials_cnn_screen.training.fitting import Fit, Plan, describe
from dials_cnn_screen.training.loop import Epoch, best_epoch
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.intervals import wilson_interval

PICTURES = (".png", ".svg", ".pdf")
TRAINING, VALIDATION = "#2166ac", "#b2182b"


def summarise(plan: Plan, result: Fit, labels: np.ndarray, parts: Parts) -> dict:
    """What a training run came to, as JSON values; labels: (n,), of all images."""
    test = labels[parts.test]
    return {
        **describe(plan, result),
        "parts": {
            k: count_classes(labels[part]) for k, part in parts._asdict().items()
        },
        "epochs": [vars(epoch) for epoch in result.history],
        "test_confusion": confusion_counts(test, result.predicted).tolist(),
        "test_confusion_before": None
        if result.before is None
        else confusion_counts(test, result.before).tolist(),
    }


def rates(labels: np.ndarray, predicted: np.ndarray) -> list[str]:
    """Hit or Maybe kept, Miss rejected, three classes right: % and 95% intervals."""
    counts = confusion_counts(labels, predicted)
    (kept, lost), (wrong, rejected) = hit_or_miss(counts)
    return [
        _percent(int(count), int(total))
        for count, total in (
            (kept, kept + lost),
            (rejected, wrong + rejected),
            (np.trace(counts), counts.sum()),
        )
    ]


def _percent(count: int, total: int) -> str:
    if not total:
        return "none there"
    low, high = wilson_interval(count, total)
    return f"{100 * count / total:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def write_history(path: str | Path, results: dict) -> None:
    """Write results as JSON."""
    with replacing(path) as unfinished:
        Path(unfinished).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def check_picture(path: str | Path) -> None:
    """Raise ValueError for a file whose ending is not that of a picture."""
    if Path(path).suffix not in PICTURES:
        raise ValueError(
            f"'{path}' with the ending '{Path(path).suffix}' is not a kind of picture "
            f"that is drawn; give one of {', '.join(PICTURES)}"
        )


def draw_history(path: str | Path, history: Sequence[Epoch], title: str) -> None:
    """Loss and success rate of training and validation by epoch, as a picture.

    The kind of picture goes by the file's ending, one of PICTURES.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True)
    best = best_epoch(list(history)).epoch
    for axes, unit, pair in (
        (above, "images right (%)", ("training_success", "validation_success")),
        (below, "loss", ("loss", "validation_loss")),
    ):
        for field, name, colour in zip(
            pair, ("training", "validation"), (TRAINING, VALIDATION), strict=True
        ):
            axes.plot(
                [epoch.epoch for epoch in history],
                [getattr(epoch, field) for epoch in history],
                "o-",
                markersize=3,
                color=colour,
                label=name,
            )
        axes.axvline(best, color="black", lw=1, ls=":", label=f"kept: epoch {best}")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    above.set_title(title, fontsize="medium")
    above.legend(fontsize="small")
    below.set_ylim(bottom=0)
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
