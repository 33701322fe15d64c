"""dials.cnn_evaluate compare=...: two runs side by side."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")

from refusals import refused

from dials_cnn_screen.command_line.cnn_evaluate import run
from dials_cnn_screen.command_line.cnn_screen import run as screen
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    decide,
    write_results,
)

pytestmark = pytest.mark.usefixtures("in_tmp_path")

BOTH = ["scores=first.json", "compare=second.json"]
# P(Hit), P(Maybe) of each image; None where it could not be classified.
FIRST = [(0.9, 0.05), (0.8, 0.1), (0.1, 0.6), (0.1, 0.1), (0.2, 0.1), (0, 0.02), None]
SECOND = [(0.9, 0.0), (0.1, 0.1), (0.7, 0.1), (0.1, 0.1), (0.1, 0.7), None, None]
LABELS = ["HIT", "HIT", "MAYBE", "MISS", "MISS", "MISS", "HIT"]


def write_run(path, scores, file="/data/run1.h5", threshold=0.5, spots=None) -> None:
    """A scores file of images of these probabilities, and of so many spots."""
    decision, images = Decision(threshold), []
    for i, p in enumerate(scores):
        name = ImageName(file, i + 1)
        if p is None:
            images.append(decide(name, None, "torn", decision))
            continue
        places = None if spots is None else np.full((spots[i], 2), 40)
        prediction = make_prediction((*p, 1 - sum(p)), places)
        images.append(decide(name, prediction, None, decision))
    model = ModelSummary(Path(path).stem, "0", max_spots=None if spots is None else 99)
    write_results(path, ScreeningResults(model, decision, images))


@pytest.fixture
def two_models() -> None:
    """Of the same images, by two models."""
    write_run("first.json", FIRST)
    write_run("second.json", SECOND)


@pytest.fixture
def labels() -> str:
    lines = [f"run1.h5 [{i}] {label}" for i, label in enumerate(LABELS, start=1)]
    Path("labels.txt").write_text("\n".join(lines))
    return "annotation=labels.txt"


def results() -> dict:
    return json.loads(Path("cnn_evaluate.json").read_text())


def log() -> str:
    """The log with its line breaks taken out."""
    return " ".join(Path("dials.cnn_evaluate.log").read_text().split())


def page() -> str:
    """What a reader sees of the page."""
    text = Path("cnn_evaluate.html").read_text()
    text = re.sub(r"<(svg|style|script).*?</\1>", "", text, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


def rates(key: str) -> dict[str, dict]:
    return {rate["name"]: rate for rate in results()[key]}


# Good input


def test_same_images_by_two_models(two_models):
    run(BOTH)
    found = results()
    assert found["compared"] == "the same images"
    assert found["expert"] is found["auc"] is None
    assert found["against_expert"] == []
    assert found["first"]["scores"] == "first.json"
    assert found["second"]["model"]["name"] == "second"
    assert found["second"]["in_one_run_only"] == 0
    agreement = found["agreement"]
    # Of the last two one run could not classify the one, neither the other.
    assert agreement["images"] == 5
    three = agreement["three_classes"]
    assert three["counts"] == [[1, 0, 1], [1, 0, 0], [0, 1, 1]]
    assert three["same"] == 2
    # Chance: (2 * 2 + 1 * 1 + 2 * 2) / 25.
    assert three["kappa"] == pytest.approx((2 / 5 - 9 / 25) / (1 - 9 / 25), abs=1e-4)
    assert agreement["hit_or_miss"]["counts"] == [[2, 1], [1, 1]]
    # What could not be classified is kept.
    kept = agreement["kept"]
    counts = [kept[key] for key in ("both", "first_only", "second_only", "neither")]
    assert counts == [3, 1, 2, 1]
    assert kept["interval_percent"]["first_only"] == [2.57, 51.31]
    of_class = {name: rate["counts"] for name, rate in rates("rates").items()}
    assert of_class == {
        "Hit": [2, 2],
        "Maybe": [1, 1],
        "Miss": [3, 2],
        "Could not be classified": [1, 2],
        "Kept": [4, 5],
    }
    assert rates("rates")["Kept"]["only"] == [1, 2]
    assert rates("rates")["Kept"]["p_value"] == 1


def test_those_that_differ_most_come_first(two_models):
    run(BOTH)
    images = results()["images"]
    assert [image["frame"] for image in images] == [2, 5, 3, 1, 4, 6, 7]
    differences = [image["difference"] for image in images]
    assert differences == [0.7, -0.5, -0.1, 0.05, 0, None, None]
    assert images[0]["first"] == {
        "class": "Hit",
        "p_keep": 0.9,
        "kept": True,
        "n_spots": None,
        "error": None,
        "path": "/data/run1.h5",
    }
    assert images[5]["second"]["error"] == "torn"
    assert re.search(r"run1.h5 \[2\] Hit Miss yes no 0.900 0.200 0.700", page())
    assert "run1.h5 [6] Miss Could not be classified no yes 0.020" in page()


def test_labels_tell_which_run_is_better(two_models, labels):
    run([*BOTH, labels])
    assert results()["expert"] == {"hit": 3, "maybe": 1, "miss": 3}
    found = rates("against_expert")
    assert {name: rate["counts"] for name, rate in found.items()} == {
        "Hit or Maybe kept": [4, 3],
        "Miss rejected": [3, 1],
        "Correct": [7, 4],
        # What could not be classified has no class.
        "Correct, three classes": [6, 2],
    }
    assert found["Correct"]["only"] == [3, 0]
    assert found["Correct"]["p_value"] == 0.25
    assert found["Hit or Maybe kept"]["totals"] == [4, 4]
    assert results()["auc"]["first"] == 1
    # Of 12 pairs of a hit and a miss; what could not be classified is above all else.
    assert results()["auc"]["second"] == pytest.approx(6.5 / 12, abs=1e-4)
    assert "No difference is more than chance gives (p < 0.05)." in log()
    assert "Labels: 3 Hit, 1 Maybe, 3 Miss" in page()


@pytest.mark.parametrize("swapped", [False, True])
def test_the_better_run_is_named(swapped):
    """Of 20 hits one run keeps all and the other 8; both reject all misses."""
    good = [(0.9, 0.0)] * 20 + [(0.1, 0.0)] * 5
    bad = [(0.2, 0.0)] * 12 + [(0.9, 0.0)] * 8 + [(0.1, 0.0)] * 5
    write_run("first.json", bad if swapped else good)
    write_run("second.json", good if swapped else bad)
    lines = [f"run1.h5 [{i}] {'HIT' if i <= 20 else 'MISS'}" for i in range(1, 26)]
    Path("labels.txt").write_text("\n".join(lines))
    run([*BOTH, "annotation=labels.txt"])
    which = "second" if swapped else "first"
    told = f"Better by more than chance (p < 0.05): the {which} run in 'Hit or Maybe"
    assert told in log()
    assert told in page()
    kept = rates("against_expert")["Hit or Maybe kept"]
    assert kept["p_value"] == pytest.approx(2 / 2**12)
    assert kept["difference_percent"] == (-60 if swapped else 60)
    low, high = kept["difference_interval_percent"]
    assert low < high < 0 if swapped else 0 < low < high


def test_two_decisions_of_one_model():
    write_run("first.json", FIRST)
    write_run("second.json", FIRST, threshold=0.8)
    run(BOTH)
    assert results()["agreement"]["three_classes"]["same"] == 6
    kept = results()["agreement"]["kept"]
    assert (kept["first_only"], kept["second_only"]) == (1, 0)
    # Scores are equal; what one run alone keeps comes first.
    assert results()["images"][0]["frame"] == 3


def test_an_eye_is_named(two_models):
    content = json.loads(Path("second.json").read_text())
    content["decision"]["eye"] = {"visible_sigma": 12.5, "source": "given"}
    Path("second.json").write_text(json.dumps(content))
    run(BOTH)
    assert "second second.json second an eye, 12.5 0.5 7 0" in page()
    assert results()["second"]["decision"]["eye"]["visible_sigma"] == 12.5


def test_part_of_the_images_in_common(labels):
    write_run("first.json", FIRST)
    write_run("second.json", SECOND[:4])
    run([*BOTH, labels])
    assert results()["first"]["in_one_run_only"] == 3
    assert len(results()["images"]) == 4
    assert "Images of the first run alone, left out: 3" in log()
    assert "Labelled images that only one of the runs has, left out: 3" in log()
    assert results()["expert"] == {"hit": 2, "maybe": 1, "miss": 1}


def test_runs_of_different_images():
    write_run("first.json", FIRST, spots=[30, 20, 5, 0, 0, 0, 0])
    write_run("second.json", SECOND[:5], "/data/run2.h5", spots=[16, 1, 40, 0, 3])
    run(BOTH)
    found = results()
    assert found["compared"] == "different images"
    assert found["agreement"] is None
    assert found["images"] == []
    hit = rates("rates")["Hit"]
    assert hit["counts"] == [2, 2]
    assert hit["totals"] == [7, 5]
    assert hit["percent"] == [28.57, 40.0]
    assert hit["only"] is hit["p_value"] is None
    low, high = hit["difference_interval_percent"]
    assert low < 0 < high
    assert "Compared as runs of different images" in log()
    assert "first /data/run2.h5 [1]" in log()
    assert "same_images" not in log()
    text = page()
    assert "Two runs of different images" in text
    svg = Path("cnn_evaluate.html").read_text()
    assert svg.count("<svg") == 3
    assert "first run, median 25" in svg
    assert "second run, median 28" in svg


def test_files_that_were_moved(two_models, labels):
    write_run("second.json", SECOND, "/scratch/run1.h5")
    run(BOTH)
    assert results()["compared"] == "different images"
    assert "7 images have the same file name and number in both runs" in log()
    run([*BOTH, "same_images=True", labels])
    assert results()["compared"] == "the same images"
    assert len(results()["images"]) == 7
    assert rates("against_expert")["Correct"]["counts"] == [7, 4]


@pytest.fixture
def screened(write_levels, level_model, installed_formats) -> list[str]:
    """Three images, classified at two thresholds."""
    file = str(write_levels("run1.h5", [250, 101, 50]))
    for name, threshold in (("first", 0.5), ("second", 0.9)):
        outputs = [f"output.scores={name}.json", "output.html=None"]
        decision = f"decision.threshold={threshold}"
        screen([file, f"model={level_model}", "mp.nproc=1", decision, *outputs])
    return [file, *BOTH]


def test_pictures_where_images_are_given(screened):
    run(screened)
    written = Path("cnn_evaluate.html").read_text()
    # Of the image that differs, both runs.
    assert written.count('alt="run1.h5 [2]"') == 2
    assert 'alt="run1.h5 [1]"' not in written
    assert "First run: Maybe" in written
    assert "Second run: Maybe" in written
    assert 'id="enlarged"' in written
    run(BOTH)
    assert "alt=" not in Path("cnn_evaluate.html").read_text()


def test_images_that_are_gone_or_others(screened, write_levels):
    run([str(write_levels("other.h5", [250])), *BOTH])
    assert "no picture of run1.h5 [2]: it is not among the images" in log()
    assert results()["agreement"]["images"] == 3


def test_outputs_can_be_left_out(two_models):
    run([*BOTH, "output.html=None", "output.results=two.json"])
    assert Path("two.json").exists()
    assert not Path("cnn_evaluate.html").exists()


def test_the_page_in_a_browser(screened, browse, tmp_path):
    run(screened)
    picture = tmp_path / "page.png"
    assert browse(tmp_path / "cnn_evaluate.html", picture, 2000) == []
    assert picture.stat().st_size > 50_000


def test_many_images_make_a_small_page():
    rng = np.random.default_rng(5)
    for name in ("first", "second"):
        write_run(f"{name}.json", [(0.9 * p, 0.0) for p in rng.random(3000)])
    run(BOTH)
    assert Path("cnn_evaluate.html").stat().st_size < 500_000
    assert "The first 100 of 3,000; all are in the results file." in page()


# Bad input


def test_without_a_first_run(two_models):
    message = refused("compare=second.json")
    assert "give scores=cnn_screen.json, too" in message


@pytest.mark.parametrize(
    "parameter",
    ["decision.threshold=0.7", "eye.visible_sigma=5", "find_spots=LO19", "min_spots=3"],
)
def test_what_has_no_meaning_here(two_models, parameter):
    message = refused(*BOTH, parameter)
    assert f"without {parameter.split('=')[0].removesuffix('.visible_sigma')};" in (
        message
    )


def test_a_file_that_is_none(two_models, labels):
    message = refused("scores=first.json", "compare=labels.txt")
    assert "'labels.txt' is not a scores file of dials.cnn_screen" in message


def test_a_run_without_images(two_models):
    empty = json.loads(Path("second.json").read_text()) | {"images": []}
    Path("second.json").write_text(json.dumps(empty))
    assert "'second.json' has no images" in refused(*BOTH)


def test_same_images_expected_and_none_is(two_models, labels):
    write_run("second.json", SECOND, "/data/run2.h5")
    message = refused(*BOTH, "same_images=True")
    assert (
        "no image is in both 'first.json' (7 images, the first /data/run1.h5 [1])"
        in (message)
    )
    assert "and 'second.json' (7 images, the first /data/run2.h5 [1])" in message
    message = refused(*BOTH, labels)
    assert "labels are for runs of the same images" in message


def test_labels_of_other_images(two_models):
    Path("labels.txt").write_text("run9.h5 [1] HIT")
    message = refused(*BOTH, "annotation=labels.txt")
    assert "labels.txt, line 1: run9.h5 [1] is labelled, but not among" in message


def test_labels_of_one_run_alone(two_models, labels):
    write_run("second.json", SECOND[:1])
    Path("labels.txt").write_text("run1.h5 [2] HIT")
    message = refused(*BOTH, labels)
    assert "none of the images that both runs have is labelled" in message


def test_an_image_that_could_be_several(two_models):
    write_run("first.json", FIRST[:1], "run1.h5")
    mixed = json.loads(Path("second.json").read_text())
    mixed["images"][1] |= {"path": "/other/run1.h5", "frame": 1}
    Path("second.json").write_text(json.dumps(mixed))
    assert "could be an image of 2 files" in refused(*BOTH)
    message = refused("scores=second.json", "compare=first.json")
    assert "of the one run are one image of the other, run1.h5 [1]" in message
