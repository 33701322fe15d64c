"""Tables 3 to 8 of Ke et al. (2018), beside what was printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.evaluation.metrics import sensitivity_at
from dials_cnn_screen.ke2018.preprocessing import CONTRASTS
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD, classify, p_keep
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import published
from dials_cnn_screen.studies.label_curve import SIZES
from dials_cnn_screen.studies.networks import Study, Trained, Wanted, train_network
from dials_cnn_screen.studies.shots import Shots, experiments_of
from dials_cnn_screen.studies.sources import cut
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.intervals import format_percent, wilson_interval

REDUCED = "Rayonix + LG36"  # of Table 7
KEPT, REJECTED = "Hit or Maybe kept", "Miss rejected"


@dataclass(frozen=True)
class Rate:
    """A rate of images that are right.

    Attributes:
        right: Their number; not whole between two cuts in spots.
        images: Number of all images.
        published: The percentage that the paper printed.
    """

    right: float
    images: int
    published: float | None = None

    def __str__(self) -> str:
        text = format_percent(self.right, self.images)
        return text if self.published is None else f"{text} [{self.published}]"

    def as_dict(self) -> dict[str, Any]:
        """JSON values, in percent."""
        interval = wilson_interval(self.right, self.images)
        return {
            "right": self.right,
            "images": self.images,
            "percent": 100 * self.right / self.images if self.images else None,
            "interval_percent": [100 * x for x in interval],
            "published_percent": self.published,
        }


@dataclass(frozen=True)
class Table:
    """Rates by row and column.

    Attributes:
        name: Of its files.
        title: Above it.
        corner: What rows and columns are.
        note: Below it.
        rows: Rates by title of row and column.
    """

    name: str
    title: str
    corner: str
    note: str = ""
    rows: dict[str, dict[str, Rate]] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Title, table and note."""
        columns = list(dict.fromkeys(c for row in self.rows.values() for c in row))
        lines = [
            [self.corner, *columns],
            ["---"] * (len(columns) + 1),
            *(
                [title, *(str(row.get(column, "")) for column in columns)]
                for title, row in self.rows.items()
            ),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(x for x in (f"## {self.title}", table, self.note) if x)

    def write(self, folder: Path, source: str) -> None:
        """Write Markdown and JSON into a folder; source: what it was made of."""
        values = {
            "source": source,
            "title": self.title,
            "note": self.note,
            "rows": {
                title: {column: rate.as_dict() for column, rate in row.items()}
                for title, row in self.rows.items()
            },
        }
        for suffix, text in (
            (".md", f"{self.as_markdown()}\n\n{source}"),
            (".json", json.dumps(values, indent=1)),
        ):
            with replacing(folder / f"{self.name}{suffix}") as unfinished:
                Path(unfinished).write_text(text + "\n", "utf-8")


def table_3(study: Study) -> Table:
    """Each experiment's own network, and spot finding, on its test shots.

    The sensitivity of both is compared at the network's specificity as well.
    """
    table = Table(
        "table_3",
        "Table 3: trained and tested on each experiment, %",
        "",
        "Spots: dials.find_spots with the parameters of Table 2 and the cuts of Fig. "
        "7, on the same shots; the printed figures are of all 2000. The last column "
        "lowers or raises the cut until spots reject as many misses as the network.",
    )
    for name in EXPERIMENTS:
        labels, n_spots = study.shots.labels(name), study.shots.n_spots[name]
        positive = labels != Label.MISS
        kept = p_keep(train_network(study, name).p[name]) >= PAPER_THRESHOLD
        row = {}
        for who, chosen, printed in zip(
            ("CNN", "Spots"),
            (kept, n_spots >= cut(name)),
            published.TABLE_3[name],
            strict=True,
        ):
            row[f"{who}: {KEPT}"] = _rate(chosen[positive], printed[0])
            row[f"{who}: {REJECTED}"] = _rate(~chosen[~positive], printed[1])
        share = sensitivity_at(float(np.mean(~kept[~positive])), n_spots, positive)
        n = int(np.count_nonzero(positive))
        row[f"Spots at the CNN's specificity: {KEPT}"] = Rate(
            0.0 if np.isnan(share) else share * n, n
        )
        table.rows[name] = row
    return table


def table_4(study: Study) -> Table:
    """Each experiment's own network on all; the paper has those of Rayonix."""
    return _cross_training(
        study,
        "table_4",
        "Table 4: trained on one experiment, tested on each, %",
        list(EXPERIMENTS),
        list(EXPERIMENTS),
        published.TABLE_4,
    )


def table_5(study: Study) -> Table:
    """Trained on the Rayonix or one CSPAD experiment, tested on each of these."""
    return _cross_training(
        study,
        "table_5",
        "Table 5: trained on one group, tested on each, %",
        list(published.TABLE_5),
        list(published.TABLE_5),
        published.TABLE_5,
    )


def table_6(study: Study) -> Table:
    """Trained on several groups together."""
    return _cross_training(
        study,
        "table_6",
        "Table 6: trained on several groups, tested on each, %",
        list(published.TABLE_6),
        list(published.TABLE_5),
        published.TABLE_6,
    )


def table_7(study: Study) -> Table:
    """By number of training images: all, and those of the paper that are fewer."""
    most, fewer = _numbers(study.shots)
    table = Table(
        "table_7",
        f"Table 7: trained on fewer images of {REDUCED}, %",
        "training images \\ tested on",
    )
    for n in [None, *fewer]:
        trained = train_network(study, REDUCED, n=n)
        title = f"{n or most}"
        table.rows[title] = _success(
            study.shots,
            trained,
            ["Rayonix", "LG36"],
            published.TABLE_7.get(n or most, {}),
        )
    return table


def _numbers(shots: Shots) -> tuple[int, list[int]]:
    """The number of training images of REDUCED, in hundreds, and SIZES below it."""
    # Each class is halved by itself, so that half of 8000 is not quite 4000.
    most = round(len(shots.splits_of(REDUCED).training), -2)
    return most, [n for n in reversed(SIZES) if n < most]


def table_8(study: Study) -> Table:
    """By contrast, each group with a network of its own."""
    table = Table(
        "table_8",
        "Table 8: trained and tested on each group, by contrast, %",
        "group \\ contrast",
        'For none the paper has words only: "almost impossible to train".',
    )
    for group, printed in published.TABLE_8.items():
        table.rows[group] = {}
        for contrast in reversed(CONTRASTS):
            trained = train_network(study, group, contrast)
            (rate,) = _success(
                study.shots, trained, [group], {group: printed.get(contrast)}
            ).values()
            table.rows[group][contrast] = rate
    return table


TABLES: tuple[Callable[[Study], Table], ...] = (
    table_3,
    table_4,
    table_5,
    table_6,
    table_7,
    table_8,
)


def all_networks(shots: Shots) -> list[Wanted]:
    """The networks of all tables, each once."""
    groups = [*EXPERIMENTS, *published.TABLE_5, *published.TABLE_6]
    wanted = [
        *((group, "lcn", None) for group in groups),
        *((REDUCED, "lcn", n) for n in _numbers(shots)[1]),
        *((g, contrast, None) for g in published.TABLE_8 for contrast in CONTRASTS),
    ]
    return list(dict.fromkeys(wanted))


def _cross_training(
    study: Study,
    name: str,
    title: str,
    trained_on: list[str],
    tested_on: list[str],
    printed: dict[str, dict[str, float]],
) -> Table:
    table = Table(name, title, "trained on \\ tested on")
    for group in trained_on:
        table.rows[group] = _success(
            study.shots, train_network(study, group), tested_on, printed.get(group, {})
        )
    return table


def _success(
    shots: Shots,
    trained: Trained,
    groups: list[str],
    printed: Mapping[str, float | None],
) -> dict[str, Rate]:
    """Success rates, of three classes (equation 10), on groups of test shots."""
    right = {name: classify(p) == shots.labels(name) for name, p in trained.p.items()}
    return {
        group: _rate(
            np.concatenate([right[name] for name in experiments_of(group)]),
            printed.get(group),
        )
        for group in groups
    }


def _rate(right: NDArray[np.bool_], printed: float | None) -> Rate:
    return Rate(int(np.count_nonzero(right)), len(right), printed)
