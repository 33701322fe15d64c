"""Tables of an evaluation, for the log and for the report alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dials_cnn_screen.labels.label import Label

_EXPERT = ("Hit or Maybe", "Miss")


class Table(NamedTuple):
    """A table of text; the first n_left columns are words, the others numbers.

    note: what a reader has to know of it.
    """

    title: str
    headers: list[str]
    rows: list[list[str]]
    note: str = ""
    n_left: int = 1


def tables(results: dict) -> list[Table]:
    """All tables of results in the form of cnn_evaluate.json."""
    return [table for make in _TABLES if (table := make(results)) is not None]


def rules(results: dict) -> Iterator[tuple[str, dict]]:
    """Each way to tell hits from misses, in words, and its confusion matrix."""
    cnn, spots = results["cnn"], results["spotfinder"]
    if cnn is not None:
        yield f"CNN, P(Hit) + P(Maybe) of {cnn['threshold']:g} or more", cnn
    if spots is None:
        return
    if spots["min_spots"] is not None:
        yield f"{spots['min_spots']} or more spots", spots
    for key, how in (
        ("at_best_cut", "the best cut on the training part"),
        ("at_cnn_specificity", "the CNN's specificity on the training part"),
    ):
        if spots[key] is not None:
            yield f"{spots[key]['min_spots']} or more spots, {how}", spots[key]


def _agreement(results: dict) -> Table | None:
    rows = [
        [
            title,
            _rate(rule, 0, 0),
            _rate(rule, 1, 1),
            _with_interval(rule["success_rate"], rule["success_rate_interval"]),
        ]
        for title, rule in rules(results)
    ]
    if not rows:
        return None
    headers = ["", "Hit or Maybe kept, %", "Miss rejected, %", "right (eq. 10), %"]
    note = "In brackets the 95% interval (Wilson)."
    return Table(
        "Agreement with the expert", headers, rows, note + _left_alone(results)
    )


def _left_alone(results: dict) -> str:
    """What is said of images that are kept whatever their scores are."""
    cnn = results["cnn"] or {"not_judged": 0, "unlike_training": 0}
    parts = []
    if cnn["not_judged"]:
        parts.append(f"{cnn['not_judged']} that could not be judged")
    if cnn["unlike_training"]:
        parts.append(f"{cnn['unlike_training']} that are unlike the CNN's training")
    return f" The CNN keeps {' and '.join(parts)}, too." if parts else ""


def _confusion(results: dict) -> Table | None:
    rows = []
    for title, rule in rules(results):
        for i, expert in enumerate(_EXPERT):
            total = sum(rule["confusion_counts"][i])
            cells = [_percent(x) for x in rule["confusion_percent"][i]]
            rows.append(["" if i else title, expert, *cells, str(total)])
    headers = ["", "Expert", "Hit (or Maybe), %", "Miss, %", "Images"]
    title = "Confusion matrices, as in Table 3 of Ke et al. (2018)"
    return Table(title, headers, rows, n_left=2) if rows else None


def _three_classes(results: dict) -> Table | None:
    if results["cnn"] is None:
        return None
    three = results["cnn"]["three_classes"]
    rows = [
        [
            label.title,
            *(
                f"{n} ({_percent(x)})"
                for n, x in zip(
                    three["confusion_counts"][label],
                    three["confusion_percent"][label],
                    strict=True,
                )
            ),
        ]
        for label in Label
    ]
    headers = ["Expert", *(f"CNN: {label.title} (%)" for label in Label)]
    rate = _with_interval(three["success_rate"], three["success_rate_interval"])
    note = f"{rate}% of the images are in the right one of three classes."
    if results["cnn"]["not_judged"]:
        note += f" {results['cnn']['not_judged']} that were not judged are not shown."
    return Table("Three classes", headers, rows, note)


def _ranking(results: dict) -> Table | None:
    rows = []
    for name, key in (("CNN", "cnn"), ("Number of spots", "spotfinder")):
        if results[key] is not None and results[key]["auc"] is not None:
            found = results[key]
            low, high = found["auc_interval"]
            rows.append([name, f"{found['auc']:.3f} ({low:.3f}-{high:.3f})"])
    matched = results["matched"]
    if not rows:
        return None
    if matched is None or matched["specificity"] is None:
        return Table("Whatever the cut", ["", "area under the ROC curve"], rows)
    at = f"kept at {_percent(100 * matched['specificity'])}% specificity, %"
    for row, key in zip(
        rows, ("cnn_sensitivity", "spotfinder_sensitivity"), strict=True
    ):
        row.append(_with_interval_of_rate(matched, key))
    difference = _with_interval_of_rate(matched, "difference")
    note = (
        f"The specificity is the CNN's; the cut in spots that has it is read off the "
        f"ROC curve of these images. The difference is {difference}% of the hits. "
        "Intervals of the latter by the bootstrap, no narrower than Wilson's."
    )
    headers = ["", "area under the ROC curve", at]
    return Table("At one specificity", headers, rows, note)


def _calibration(results: dict) -> Table | None:
    if results["cnn"] is None:
        return None
    calibration = results["cnn"]["calibration"]
    rows = [
        [
            f"{b['low']:.2f}-{b['high']:.2f}",
            str(b["images"]),
            f"{100 * b['mean_p']:.1f}",
            _with_interval(b["hit_or_maybe_percent"], b["hit_or_maybe_interval"]),
        ]
        for b in calibration["bins"]
    ]
    if not rows:
        return None
    headers = ["P(Hit) + P(Maybe)", "Images", "mean, %", "Hit or Maybe, %"]
    error = calibration["expected_calibration_error"]
    note = f"Expected calibration error {error:.3f}."
    return Table("Reliability of the probabilities", headers, rows, note)


def _seconds(results: dict) -> Table | None:
    rows = []
    for name, key in (("CNN", "cnn"), ("dials.find_spots", "spotfinder")):
        if results[key] is not None and results[key]["seconds"] is not None:
            seconds = results[key]["seconds"]
            work = sum(s for step, s in seconds.items() if step != "reading")
            rows.append([name, f"{seconds['reading']:.3f}", f"{work:.3f}"])
    headers = ["", "reading, s a frame", "judging or finding, s a frame"]
    note = (
        "On one process. Masks are made in reading for the CNN, in finding for "
        "dials.find_spots, which comes second: the files may be in the system's cache."
    )
    return Table("Time", headers, rows, note) if rows else None


_TABLES = (
    _agreement,
    _confusion,
    _ranking,
    _three_classes,
    _calibration,
    _seconds,
)


def _rate(rule: dict, row: int, column: int) -> str:
    return _with_interval(
        rule["confusion_percent"][row][column],
        rule["confusion_interval_percent"][row][column],
    )


def _with_interval(value: float | None, interval: list[float]) -> str:
    if value is None:
        return "none"
    return f"{value} ({interval[0]}-{interval[1]})"


def _with_interval_of_rate(matched: dict, key: str) -> str:
    low, high = (f"{100 * x:.1f}" for x in matched[f"{key}_interval"])
    return f"{100 * matched[key]:.1f} ({low} to {high})"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"
