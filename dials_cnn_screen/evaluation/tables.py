"""Tables of an evaluation, for the log and for the report alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.util.intervals import format_interval, format_percent

_EXPERT = ("Hit or Maybe", "Miss")


class Table(NamedTuple):
    """A table of text.

    Attributes:
        title: What it shows.
        headers: Of the columns.
        rows: Of cells, as many as there are headers.
        note: What a reader has to know of it.
        n_left: How many columns are words; the others are numbers.
    """

    title: str
    headers: list[str]
    rows: list[list[str]]
    note: str = ""
    n_left: int = 1


def make_tables(results: dict[str, Any]) -> list[Table]:
    """All tables of results in the form of cnn_evaluate.json."""
    return [table for make in _TABLES if (table := make(results)) is not None]


def list_rules(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each rule that tells hits from misses, in words, and its confusion matrix."""
    cnn, spots = results["cnn"], results["spotfinder"]
    if cnn is not None:
        yield f"CNN, P(Hit) + P(Maybe) of {cnn['threshold']:g} or more", cnn
    if spots is None:
        return
    if spots["min_spots"] is not None:
        yield _at_least(spots["min_spots"]), spots
    for key, how in (
        ("at_best_cut", "the best cut on the training split"),
        ("at_cnn_specificity", "the CNN's specificity on the training split"),
    ):
        if spots[key] is not None:
            yield f"{_at_least(spots[key]['min_spots'])}, {how}", spots[key]


def _at_least(n_spots: int) -> str:
    return f"{n_spots} or more spots"


def _agreement(results: dict[str, Any]) -> Table | None:
    rows = []
    for title, rule in list_rules(results):
        counts = np.array(rule["confusion_counts"])
        kept, rejected = (format_percent(counts[i, i], counts[i].sum()) for i in (0, 1))
        rows.append(
            [title, kept, rejected, format_percent(np.trace(counts), counts.sum())]
        )
    if not rows:
        return None
    headers = ["", "Hit or Maybe kept, %", "Miss rejected, %", "correct (eq. 10), %"]
    note = "In brackets the 95% interval (Wilson)."
    return Table(
        "Agreement with the expert", headers, rows, note + _kept_anyway(results)
    )


def _kept_anyway(results: dict[str, Any]) -> str:
    """A sentence on the images that are kept whatever their probabilities are."""
    cnn = results["cnn"] or {"failed": 0, "out_of_distribution": 0}
    kinds = []
    if cnn["failed"]:
        kinds.append(f"{_count_images(cnn['failed'])} that could not be classified")
    if n := cnn["out_of_distribution"]:
        are = "is" if n == 1 else "are"
        kinds.append(
            f"{_count_images(n)} that {are} out of the distribution of its training"
        )
    return f" The CNN also keeps {' and '.join(kinds)}." if kinds else ""


def _confusion(results: dict[str, Any]) -> Table | None:
    rows = []
    for title, rule in list_rules(results):
        for i, expert in enumerate(_EXPERT):
            total = sum(rule["confusion_counts"][i])
            cells = [_number(x) for x in rule["confusion_percent"][i]]
            rows.append(["" if i else title, expert, *cells, str(total)])
    headers = ["", "Expert", "Hit (or Maybe), %", "Miss, %", "Images"]
    title = "Confusion matrices, as in Table 3 of Ke et al. (2018)"
    return Table(title, headers, rows, n_left=2) if rows else None


def _three_classes(results: dict[str, Any]) -> Table | None:
    if results["cnn"] is None:
        return None
    three, failed = results["cnn"]["three_classes"], results["cnn"]["failed"]
    rows = [
        [
            label.title,
            *(
                f"{n} ({_number(x)})"
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
    correct = int(np.trace(three["confusion_counts"]))
    rate = format_percent(correct, sum(results["expert"].values()))
    note = f"The CNN predicts the expert's class for {rate}% of the images."
    if failed:
        are = "is" if failed == 1 else "are"
        note += (
            f" {_count_images(failed)} that could not be classified {are} not shown."
        )
    return Table("Three classes", headers, rows, note)


def _ranking(results: dict[str, Any]) -> Table | None:
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
        headers = ["", "area under the ROC curve"]
        return Table("Independent of the cut", headers, rows)
    at = f"kept at {_number(100 * matched['specificity'])}% specificity, %"
    for row, key in zip(
        rows, ("cnn_sensitivity", "spotfinder_sensitivity"), strict=True
    ):
        row.append(_matched(matched, key))
    note = (
        "The specificity is the CNN's; the cut in spots that has it is read off the "
        "ROC curve of these images. The difference is "
        f"{_matched(matched, 'difference')}% of the hits. Intervals of sensitivities "
        "are from the bootstrap, and no narrower than Wilson's."
    )
    headers = ["", "area under the ROC curve", at]
    return Table("At equal specificity", headers, rows, note)


def _calibration(results: dict[str, Any]) -> Table | None:
    if results["cnn"] is None:
        return None
    calibration = results["cnn"]["calibration"]
    rows = [
        [
            f"{b['low']:.2f}-{b['high']:.2f}",
            str(b["images"]),
            f"{100 * b['mean_p']:.1f}",
            format_percent(b["hit_or_maybe"], b["images"]),
        ]
        for b in calibration["bins"]
    ]
    if not rows:
        return None
    headers = ["P(Hit) + P(Maybe)", "Images", "mean, %", "Hit or Maybe, %"]
    error = calibration["expected_calibration_error"]
    note = f"Expected calibration error {error:.3f}."
    return Table("Reliability of the probabilities", headers, rows, note)


def _seconds(results: dict[str, Any]) -> Table | None:
    rows = []
    for name, key in (("CNN", "cnn"), ("dials.find_spots", "spotfinder")):
        if results[key] is not None and results[key]["seconds"] is not None:
            seconds = results[key]["seconds"]
            work = sum(s for step, s in seconds.items() if step != "reading")
            rows.append([name, f"{seconds['reading']:.3f}", f"{work:.3f}"])
    headers = ["", "reading, s/image", "classifying or spot finding, s/image"]
    note = (
        "On one process. Masks are made during reading for the CNN, and during spot "
        "finding for dials.find_spots, which runs second: the files may then be in the "
        "system's cache."
    )
    return Table("Time", headers, rows, note) if rows else None


def _audit(results: dict[str, Any]) -> Table | None:
    audit = results["audit"]
    if audit is None:
        return None
    cells = [audit[key] for key in ("rejected", "audited", "labelled", "hits")]
    limit = f"{100 * audit['upper_limit']:.2f}"
    row = [*map(str, cells), limit, f"{audit['upper_limit_images']:.0f}"]
    headers = ["Rejected", "audited", "labelled", "hits", "hits at most, %", "images"]
    note = (
        "Hits (labelled Hit or Maybe) among the rejected images of the whole run: the "
        f"{100 * audit['confidence']:.0f}% upper limit by Clopper and Pearson. It "
        "holds for any model, if the labelled images are all of the audited ones, or "
        "some drawn at random."
    )
    return Table("Audit of the rejected images", headers, [row], note, n_left=0)


_TABLES = (
    _agreement,
    _audit,
    _confusion,
    _ranking,
    _three_classes,
    _calibration,
    _seconds,
)


def _matched(matched: dict[str, Any], key: str) -> str:
    """A rate with its interval, in percent."""
    return f"{100 * matched[key]:.1f} {format_interval(*matched[f'{key}_interval'])}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _count_images(n: int) -> str:
    return f"{n} image{'s' * (n != 1)}"
