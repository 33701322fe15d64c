from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.evaluation.spotfinding import PRESETS, count_spots, preset
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import compare_find_spots as module
from dials_cnn_screen.studies.compare_find_spots import Comparison, Tuning
from dials_cnn_screen.studies.outcomes import SEED, Outcome

SURE_HIT, SURE_MISS = np.array([0.9, 0.1, 0.0]), np.array([0.0, 0.1, 0.9])
TABLE_2 = preset("LO19")


def shot(label: Label, p: np.ndarray, *counts: int | None) -> Comparison:
    seconds = (0.01, *(0.1 for _ in counts))
    outcome = Outcome(0, 0.0, label, "crystal", make_prediction(p))
    return Comparison(outcome, counts, seconds)


# The network keeps a hit and a maybe of three, and one miss of four.
SHOTS = [
    shot(Label.HIT, SURE_HIT, None, 80),
    shot(Label.MAYBE, SURE_HIT, 0, 60),
    shot(Label.HIT, SURE_MISS, 3, 4),
    shot(Label.MISS, SURE_HIT, 0, 55),
    shot(Label.MISS, SURE_MISS, None, 1),
    shot(Label.MISS, SURE_MISS, 0, 1),
    shot(Label.MISS, SURE_MISS, None, 0),
]


@pytest.fixture
def in_this_process(monkeypatch):
    """Work is not shared out among processes, which would know nothing of patches."""
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows():
    methods = {"plain": preset("default"), "chosen": TABLE_2}
    network, plain, chosen = map(cells, module.rows("LO19", SHOTS, methods))
    assert network[:2] == ["LO19", "default model"]
    assert network[4:] == ["66.7 / 75.0", "-", "0.010"]
    # A quarter of the misses is kept by keeping both hits that were found and a miss.
    assert network[3].startswith("66.7 (")
    # Given up is no spots: one hit is above all misses, the others are not.
    assert plain[1] == "plain"
    assert plain[2] == f"{(4 + 2 * 4 / 2) / 12:.3f}"
    assert plain[3].startswith(f"{100 * (1 / 3 + 2 / 3 / 4):.1f} (")
    assert plain[4:] == ["-", "43", "0.100"]
    # With 4 spots or more, the cut between one and two misses of four, all are kept.
    assert chosen[2] == f"{(4 + 4 + 3) / 12:.3f}"
    assert chosen[3].startswith("100.0 (")
    assert chosen[4:] == ["66.7 / 75.0", "0", "0.100"]


def test_rows_without_positives():
    rows = module.rows("LO19", SHOTS[3:], {"plain": TABLE_2})
    assert cells(rows[0])[2:4] == ["nan", "none"]
    assert cells(rows[1])[4] == "- / 100.0"


@pytest.mark.parametrize(
    ("specificity", "cut"), [(0.0, 1), (0.5, 2), (0.75, 3), (0.76, 41), (1.0, 41)]
)
def test_cut_of_a_specificity(specificity, cut):
    """The lowest that rejects so many misses, of 0, 1, 2 and 40 spots."""
    counts = np.array([100, 40, 2, 0, 1, 7])
    positive = np.array([True, False, False, False, False, True])
    finding = Tuning(TABLE_2, counts, positive).with_cut(specificity)
    assert finding == replace(TABLE_2, min_spots=cut)
    rejected = np.mean(counts[~positive] < finding.min_spots)
    assert rejected >= specificity


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_grid_has_table_2(name):
    """With the sizes of spots, which are tried on each."""
    table_2 = replace(preset(name), min_spot_size=1)
    assert module.grid(preset(name)).count(table_2) == 1
    assert preset(name).min_spot_size in module.SPOT_SIZES


def test_counts_in_the_grid_are_those_of_find_spots(small, installed_formats):
    """Though spots are found once for all sizes."""
    job = ("LO19", Label.HIT, 3)
    change = {"gain": 1.0, "global_threshold": 0, "min_spot_size": 1}
    findings = [replace(f, **change) for f in (preset("default"), TABLE_2)]
    positive, counts = module._count_in_grid(findings, job)
    assert positive
    assert (counts[:, 0] > counts[:, -1]).all()
    shot = module.simulate_job(job)
    with module.as_still(shot, "LO19") as still:
        for i, finding in enumerate(findings):
            for j, size in enumerate(module.SPOT_SIZES):
                sized = replace(finding, min_spot_size=size)
                assert count_spots(still, sized, [shot.mask]) == counts[i, j]


def test_tuning_takes_the_best_of_the_grid(small, in_this_process, monkeypatch):
    """Only one setting tells hits from misses; the others count at random."""
    rng = np.random.default_rng(1)

    def count(_findings, job):
        positive = job[1] is not Label.MISS
        counts = rng.integers(5, size=(len(module.grid(TABLE_2)), 4))
        counts[4, 2] = 10 if positive else 0
        return positive, counts

    monkeypatch.setattr(module, "_count_in_grid", count)
    tuning = module.tune("LO19", 20, 5)
    expected = module.grid(TABLE_2)[4]
    assert tuning.finding == replace(expected, min_spot_size=module.SPOT_SIZES[2])
    np.testing.assert_array_equal(tuning.counts, np.where(tuning.positive, 10, 0))
    # Half of the shots are misses, whatever the shares of the experiment.
    assert tuning.positive.sum() == 10


def test_shots_are_compared(
    small, in_this_process, level_model, installed_formats, monkeypatch
):
    """The network and find_spots see one frame, and one mask."""
    masks = []

    def count(still, finding, mask):
        masks.append(mask)
        return count_spots(still, finding, mask)

    monkeypatch.setattr(module, "count_spots", count)
    job = ("LO19", Label.HIT, 3)
    findings = [preset("default"), TABLE_2]
    (found,) = module.compare(load_model(level_model), [job], findings)
    assert found.outcome.prediction.probabilities.sum() == pytest.approx(1)
    assert found.outcome.label is Label.HIT
    assert len(found.counts) == 2
    assert len(found.seconds) == 3
    assert min(found.seconds) > 0
    for mask in masks:
        np.testing.assert_array_equal(mask[0], module.simulate_job(job).mask)


def test_table(monkeypatch, capsys):
    seen = {}

    def tune(name: str, n: int, seed: int) -> Tuning:
        seen[name] = (n, seed)
        counts, positive = np.array([9, 0, 3]), np.array([True, False, False])
        return Tuning(PRESETS[name], counts, positive)

    def compare(_model: object, jobs: list, findings: list) -> list[Comparison]:
        assert findings == (preset("default"), *[preset(jobs[0][0])] * 2)
        return [replace(s, counts=(1, 2, 3), seconds=(1, 1, 1, 1)) for s in SHOTS]

    monkeypatch.setattr(module, "load_model", lambda _name: None)
    monkeypatch.setattr(module, "tune", tune)
    monkeypatch.setattr(module, "compare", compare)
    module.main(20)
    out = capsys.readouterr().out
    assert "20 simulated shots of each experiment, 20 others for tuning" in out
    assert "Hit or Maybe" in out
    table = [cells(line) for line in out.splitlines() if line.startswith("|")]
    assert {len(row) for row in table} == {7}
    methods = ["default model", *module.METHODS]
    expected = [[name, method] for name in EXPERIMENTS for method in methods]
    assert [row[:2] for row in table[2:]] == expected
    # The cut that has the network's specificity of 75% on misses of 0 and 3 spots.
    assert "LO19: dispersion gain=0.19" in out
    assert out.count("cut at 4 spots") == 5
    assert seen["LO19"][0] == 20
    module.main(1000)
    assert seen["LO19"][0] == module.TUNING_SHOTS


def test_too_few_shots():
    with pytest.raises(ValueError, match="3 shots are too few; give 12 or more"):
        module.main(3)


def test_no_seed_is_used_twice():
    tested = module.plan(list(EXPERIMENTS), 600, SEED)
    for i, (name, jobs) in enumerate(tested.items()):
        tuning = module.plan_run(name, 600, (1, 1, 2), module.TUNING_SEED + i)
        assert not {seed for *_, seed in jobs} & {seed for *_, seed in tuning}
