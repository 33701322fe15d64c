"""Tables of a comparison of two runs, for the log and for the report alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dials_cnn_screen.evaluation.differences import SIGNIFICANCE
from dials_cnn_screen.evaluation.run import log_table
from dials_cnn_screen.evaluation.tables import Table
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import FAILED
from dials_cnn_screen.util.intervals import format_interval, format_percent

RUNS = ("first", "second")
# Images in the log; the report and the results file have more.
_LOGGED = 10


def compare_tables(results: dict[str, Any]) -> list[Table]:
    """All tables but that of images, of results of Comparison.as_json."""
    makers = (_runs, _against_expert, _areas, _rates, _classes, _kept)
    return [table for make in makers if (table := make(results)) is not None]


def tabulate_differences(results: dict[str, Any], most: int) -> Table | None:
    """The images whose scores differ most; None where the images differ.

    Args:
        results: Of Comparison.as_json.
        most: Rows, at most.
    """
    images = results["images"]
    if not images:
        return None
    has_expert = results["expert"] is not None
    headers = ["Image", *(["Expert"] if has_expert else [])]
    headers += [f"{run}: class" for run in RUNS]
    headers += [f"{run}: kept" for run in RUNS]
    headers += [f"{run}: spots" for run in RUNS]
    headers += [f"{run}: score" for run in RUNS] + ["difference"]
    rows = []
    for image in images[:most]:
        both = [image[run] for run in RUNS]
        spots = [run["n_spots"] for run in both]
        scores = [*(run["p_keep"] for run in both), image["difference"]]
        rows.append(
            [
                f"{image['file']} [{image['frame']}]",
                *([image["expert"] or ""] if has_expert else []),
                *(run["class"] or FAILED for run in both),
                *("yes" if run["kept"] else "no" for run in both),
                *("" if n is None else str(n) for n in spots),
                *("" if x is None else f"{x:.3f}" for x in scores),
            ]
        )
    note = "Score: P(Hit) + P(Maybe)."
    if len(images) > most:
        note += f" The first {most} of {len(images):,}; all are in the results file."
    title = "Images whose scores differ most"
    return Table(title, headers, rows, note, n_left=5 + has_expert)


def log_comparison(results: dict[str, Any]) -> None:
    """Log all tables of a comparison."""
    tables = [*compare_tables(results), tabulate_differences(results, _LOGGED)]
    for table in tables:
        if table is not None:
            log_table(table)


def _runs(results: dict[str, Any]) -> Table:
    rows = []
    for name in RUNS:
        run = results[name]
        eye = run["decision"]["eye"]
        rows.append(
            [
                name,
                run["scores"],
                run["model"]["name"],
                "the model" if eye is None else f"an eye, {eye['visible_sigma']:.3g}",
                f"{run['decision']['threshold']:.4g}",
                str(run["images"]),
                str(run["in_one_run_only"]),
            ]
        )
    headers = ["Run", "scores file", "model", "classes by"]
    headers += ["threshold", "images", "of these not in the other run"]
    return Table("The two runs", headers, rows, n_left=4)


def _rates(results: dict[str, Any]) -> Table:
    note = (
        "In brackets 95% intervals. Images kept for an audit are not counted as kept."
    )
    return _differences("Images of each class, and kept", results["rates"], note)


def _against_expert(results: dict[str, Any]) -> Table | None:
    rates = results["against_expert"]
    if not rates:
        return None
    note = f"{_verdict(rates)} In brackets 95% intervals; p: McNemar's exact test."
    return _differences("Agreement with the expert", rates, note)


def _verdict(rates: Sequence[dict[str, Any]]) -> str:
    """Which run is better in what, by more than chance."""
    better: dict[str, list[str]] = {}
    for rate in rates:
        if rate["p_value"] < SIGNIFICANCE:
            run = RUNS[rate["difference_percent"] < 0]
            better.setdefault(run, []).append(f"'{rate['name']}'")
    if not better:
        return f"No difference is more than chance gives (p < {SIGNIFICANCE:g})."
    told = "; ".join(f"the {run} run in {', '.join(of)}" for run, of in better.items())
    return f"Better by more than chance (p < {SIGNIFICANCE:g}): {told}."


def _differences(title: str, rates: Sequence[dict[str, Any]], note: str) -> Table:
    """Rates of both runs, and their differences."""
    rows = []
    for rate in rates:
        first, second = (
            format_percent(n, total)
            for n, total in zip(rate["counts"], rate["totals"], strict=True)
        )
        low, high = rate["difference_interval_percent"]
        row = [rate["name"], first, second]
        row.append(_signed(rate["difference_percent"] / 100, (low / 100, high / 100)))
        if rate["only"] is not None:
            row += [*map(str, rate["only"]), format_p(rate["p_value"])]
        rows.append(row)
    headers = ["", "first, %", "second, %", "first - second, %"]
    if rates[0]["only"] is not None:
        headers += ["first only", "second only", "p"]
    return Table(title, headers, rows, note)


def _areas(results: dict[str, Any]) -> Table | None:
    auc = results["auc"]
    if auc is None:
        return None
    low, high = auc["difference_interval"]
    row = [f"{auc[run]:.3f}" for run in RUNS]
    row.append(f"{auc['difference']:+.3f} ({low:.3f} to {high:.3f})")
    note = "At any threshold together. The interval is the bootstrap's; it "
    if low <= 0 <= high:
        note += "includes 0: neither run is shown to rank the images better."
    else:
        better = RUNS[high < 0]
        note += f"excludes 0: the {better} run ranks the images better."
    headers = [*RUNS, "first - second"]
    return Table("Area under the ROC curve", headers, [row], note, n_left=0)


def _classes(results: dict[str, Any]) -> Table | None:
    if results["agreement"] is None:
        return None
    three, two = (results["agreement"][k] for k in ("three_classes", "hit_or_miss"))
    total = results["agreement"]["images"]
    rows = [
        [label.title, *map(str, row)]
        for label, row in zip(Label, three["counts"], strict=True)
    ]
    headers = ["First run", *(f"second: {label.title}" for label in Label)]
    note = (
        f"Of {total} images that both classify the classes are the same for "
        f"{three['same']}, {format_percent(three['same'], total)}%, Cohen's kappa "
        f"{_kappa(three)}. Hit or Maybe against Miss: {two['same']}, "
        f"{format_percent(two['same'], total)}%, kappa {_kappa(two)}."
    )
    return Table("Classes of the one run against the other", headers, rows, note)


def _kept(results: dict[str, Any]) -> Table | None:
    if results["agreement"] is None:
        return None
    kept = results["agreement"]["kept"]
    names = {
        "both": "both runs",
        "first_only": "the first run only",
        "second_only": "the second run only",
        "neither": "neither run",
    }
    total = sum(kept[key] for key in names)
    rows = [
        [name, str(kept[key]), format_percent(kept[key], total)]
        for key, name in names.items()
    ]
    return Table("Images kept", ["Kept by", "images", "%"], rows)


def format_p(p: float) -> str:
    """A chance as it is printed: ``0.034``, ``<0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _signed(difference: float, interval: tuple[float, float]) -> str:
    return f"{100 * difference:+.1f} {format_interval(*interval)}"


def _kappa(agreement: dict[str, Any]) -> str:
    kappa = agreement["kappa"]
    return "undefined (one class only)" if kappa is None else f"{kappa:.2f}"
