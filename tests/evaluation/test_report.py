from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.evaluation.input import LabelledImages, SpotFindingResults
from dials_cnn_screen.evaluation.report import write_report
from dials_cnn_screen.evaluation.results import Evaluation
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    ImageResult,
    ModelSummary,
    ScreeningResults,
    decide,
)

HIT, MAYBE, MISS = Label
NASTY = "<script>alert('x')&.h5"
P = {HIT: (0.9, 0.08, 0.02), MAYBE: (0.2, 0.4, 0.4), MISS: (0.1, 0.1, 0.8)}


def frame(*_) -> Frame:
    data = np.random.default_rng(1).poisson(20, (900, 1000)).astype(np.float32)
    return Frame(data, np.ones(data.shape, dtype=bool), (450.0, 500.0))


def result(name: ImageName, predicted: Label | None) -> ImageResult:
    if predicted is None:
        return decide(name, None, "out of <ink>", Decision())
    spots = np.array([[449, 499]] * 3)
    return decide(name, make_prediction(P[predicted], spots), None, Decision())


@pytest.fixture
def make_page(tmp_path, monkeypatch):
    """Function make(labels, predicted, n_spots, ...) -> the page.

    predicted: the CNN's classes, None for an image that could not be classified.
    n_spots: by spot finding.
    """
    monkeypatch.setattr(Source, "read", frame)

    def make(
        labels, predicted=None, n_spots=None, file="run.h5", with_images=True
    ) -> str:
        names = [ImageName(file, i + 1) for i in range(len(labels))]
        stills = [Still(None, i, name, [i]) for i, name in enumerate(names)]
        training = np.zeros(len(labels), bool)
        images = LabelledImages(
            names, np.array(labels), training, stills if with_images else None
        )
        screening = spots = None
        if predicted is not None:
            model = ModelSummary("m", "0", trained_on="toys & <others>", max_spots=3)
            found = [result(*pair) for pair in zip(names, predicted, strict=True)]
            screening = ScreeningResults(model, Decision(), found)
        if n_spots is not None:
            spots = SpotFindingResults(np.array(n_spots), "counts.txt", 5)
        evaluation = Evaluation(images, screening, spots)
        results = evaluation.as_json("decision.threshold = 0.5")
        write_report(tmp_path / "page.html", evaluation, results, "Ke et al. (2018)")
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return make


LABELS = [0, 0, 1, 2, 2, 2, 0]
PREDICTED = [HIT, MISS, MAYBE, MISS, HIT, MAYBE, None]
SPOTS = [40, 12, 3, 0, 5, 2, 0]


LOST = "Lost hits (labelled Hit or Maybe, called Miss)"
FALSE = "False hits (labelled Miss, kept)"


def text_of(page: str) -> str:
    """What a reader sees of the page, figures left out."""
    page = re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def galleries(page: str) -> dict[str, list[str]]:
    """Title of each gallery, and the numbers of the images that it shows."""
    parts = re.findall(
        r"<h2>((?:Lost|False) hits \([^<]*\)): \d+ by [^<]*</h2>(.*?)(?=<h2>)",
        page,
        re.DOTALL,
    )
    return {
        title: re.findall(r'alt="run.h5 \[(\d+)\]"', content)
        for title, content in parts
    }


def test_what_the_page_says(make_page):
    text = text_of(make_page(LABELS, PREDICTED, SPOTS))
    assert "7 images against an expert's labels" in text
    assert "the expert's labels are 3 Hit, 1 Maybe, 3 Miss" in text
    assert "CNN, P(Hit) + P(Maybe) of 0.5 or more 75.0% of Hit or Maybe kept" in text
    assert "5 or more spots 50.0% of Hit or Maybe kept" in text
    assert "run.h5 [7] out of &lt;ink&gt;" in text
    assert "toys &amp; &lt;others&gt;" in text
    assert "decision.threshold = 0.5" in text
    assert "Please cite: Ke et al. (2018)" in text


def test_mistakes_are_shown_and_can_be_found(make_page):
    page = make_page(LABELS, PREDICTED, SPOTS)
    assert galleries(page) == {
        LOST: ["2"],
        FALSE: ["5", "6"],
    }
    text = text_of(page)
    assert (
        "Miss , labelled Hit by the expert, 3 or more spots, 12 spots by spot" in text
    )
    # The kept and the spots are the model's, as in the report of dials.cnn_screen.
    assert (
        "Hit , labelled Miss by the expert, 3 or more spots, kept, 5 spots by" in text
    )


def test_mistakes_of_a_cut_in_spots(make_page):
    page = make_page(LABELS, None, SPOTS)
    assert "called Miss): 2 by a cut at 5 spots, the worst first" in page
    assert galleries(page) == {LOST: ["7", "3"], FALSE: ["5"]}
    assert "3 spots , labelled Maybe by the expert run.h5 [3]" in text_of(page)


def test_worst_mistakes_come_first_and_only_some(make_page):
    page = make_page([2] * 30, [MAYBE] * 15 + [HIT] * 15)
    assert f"{FALSE}: 30 by the CNN at a threshold of 0.5, the worst first" in page
    assert galleries(page)[FALSE] == [str(i) for i in range(16, 25)]


def test_images_that_cannot_be_read_are_not_shown(make_page, monkeypatch, caplog):
    def fail(*_):
        raise OSError("gone")

    monkeypatch.setattr(Source, "read", fail)
    page = make_page(LABELS, PREDICTED, SPOTS)
    assert f"{FALSE}: 2 by the CNN" in page
    assert "No picture of run.h5 [5] in the report: gone" in caplog.text
    assert "<img" not in page


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ((LABELS, PREDICTED, SPOTS), 4),
        ((LABELS, PREDICTED), 3),
        ((LABELS, None, SPOTS), 3),
        (([0, 1], [HIT, MISS], [4, 8]), 3),
        (([2], [None], [0]), 2),
    ],
)
def test_figures_of_what_there_is(make_page, given, n):
    assert make_page(*given, with_images=False).count("<figure>") == n


def test_no_mistakes(make_page):
    page = make_page([0, 2], [HIT, MISS])
    assert galleries(page) == {}
    assert "The CNN made no mistake." in page


def test_without_images(make_page):
    page = make_page(LABELS, PREDICTED, SPOTS, with_images=False)
    assert "<img" not in page
    assert "No pictures of what was classified wrongly" in page


def test_file_names_are_escaped(make_page):
    page = make_page(LABELS, PREDICTED, SPOTS, file=NASTY)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_page_is_rendered(make_page, browse, tmp_path):
    make_page(LABELS, PREDICTED, SPOTS)
    picture = tmp_path / "page.png"
    assert browse(tmp_path / "page.html", picture, 2600) == []
    from matplotlib import image

    seen = image.imread(picture)[..., :3]
    assert seen.shape[:2] == (2600, 1200)

    def shown(colour: tuple[int, int, int]) -> np.ndarray:
        return (np.abs(seen - np.divide(colour, 255)) < 0.02).all(axis=2)

    # The tiles, then curves and bars; those of the CNN blue, those of spots brown.
    for colour in ((0x21, 0x66, 0xAC), (0xB3, 0x58, 0x06)):
        assert shown(colour)[:300].any()
        assert shown(colour)[300:1100].any()
    assert shown((0x1B, 0x78, 0x37))[300:1100].any()
    # Nothing is cut off on the right.
    assert (seen[:, -8:] > 0.99).all()
