from __future__ import annotations

import html
import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs import gallery
from dials_cnn_screen.outputs.report import write_report
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults, decide

PAPER = Decision()
NASTY = "<script>alert('x')&.h5"


def with_spots(n_spots: int, seed: int = 1) -> Frame:
    """A frame of 900 x 1000 pixels, Poisson noise and spots of one pixel."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(20, (900, 1000)).astype(np.float32)
    data[rng.integers(0, 900, n_spots), rng.integers(0, 1000, n_spots)] += 400
    return Frame(data, np.ones(data.shape, dtype=bool), (450.0, 500.0))


@pytest.fixture
def make_page(tmp_path, monkeypatch):
    """Function make(probabilities or error of each image, ...) -> the page."""
    monkeypatch.setattr(
        gallery, "read_frame", lambda imageset, position: with_spots(30)
    )

    def make(
        *outcomes, file="run.h5", decision=PAPER, spots=None, ood_scores=None
    ) -> str:
        stills = [
            SimpleNamespace(name=ImageName(file, i + 1), imageset=None, position=i)
            for i in range(len(outcomes))
        ]
        images = []
        for i, (still, outcome) in enumerate(zip(stills, outcomes, strict=True)):
            prediction, error = None, None
            if isinstance(outcome, str):
                error = outcome
            else:
                ood_score = ood_scores and ood_scores[i]
                prediction = make_prediction(outcome, spots, ood_score)
            images.append(decide(still.name, prediction, error, decision))
        model = ModelSummary(
            "m", "0", "a", "toys & <others>", None if spots is None else 3
        )
        path = tmp_path / "page.html"
        results = ScreeningResults(model, decision, images)
        write_report(path, results, stills, "Ke et al. (2018)")
        return path.read_text(encoding="utf-8")

    return make


HIT, MAYBE, MISS = (0.9, 0.08, 0.02), (0.2, 0.5, 0.3), (0.01, 0.02, 0.97)


def text_of(page: str) -> str:
    """What a reader sees of the page, figures left out."""
    page = re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_figures_of_the_run(make_page):
    text = text_of(make_page(HIT, MAYBE, MISS, "out of <ink>"))
    assert "Hit rate 25.0%: 1 of 4 images" in text
    assert "Hit 1 25.0% 95%: 4.6 to 69.9" in text
    assert "Kept 3 75.0% 95%: 30.1 to 95.4" in text
    assert "Images are kept if P(Hit) + P(Maybe) is 0.5 or more." in text
    assert "1 of 4 images could not be classified" in text
    assert "run.h5 [4] out of <ink>" in text
    assert "P(Hit) 0.200, P(Maybe) 0.500, P(Miss) 0.300" in text
    assert "toys & <others>" in text
    assert "Please cite: Ke et al. (2018)" in text


def test_hit_loss_is_told(make_page):
    decision = Decision(
        0.1234,
        0.02,
        max_hit_loss=0.01,
        calibrated_on="toys & tests",
        calibration_hits=300,
    )
    text = text_of(make_page(HIT, MISS, decision=decision))
    assert "is 0.1234 or more. At this threshold at most 1% of the hits" in text
    assert "the 300 calibration hits: toys & tests" in text
    assert "2% are kept at random" in text


def circles(page: str) -> list[tuple[float, float]]:
    """Where on its picture, as fractions (down, across), each circle is drawn."""
    places = []
    for box, drawn in re.findall(
        r'<svg viewBox="([^"]*)">(.*?)</svg>', page, re.DOTALL
    ):
        left, top, width, height = map(float, box.split())
        for x, y in re.findall(r'cx="([^"]*)" cy="([^"]*)"', drawn):
            places.append(((float(y) - top) / height, (float(x) - left) / width))
    return places


def test_spots_have_circles(make_page):
    # The beam is in the middle of the picture, at (450, 500) of the frame.
    page = make_page(HIT, spots=np.array([[449, 499], [0, 500]]))
    expected = [[719.5, 719.5], [270.5, 720.5]]
    np.testing.assert_allclose(circles(page), np.divide(expected * 2, 1440))
    assert (
        "Hit , 2 spots seen for certain; not a Miss since P(Hit) + P(Maybe) = 0.98"
        in text_of(page)
    )
    assert "looks at the 3 strongest candidates" in text_of(page)


@pytest.mark.parametrize(
    ("n_spots", "caption"),
    [(0, "Hit , 0 spots"), (1, "Hit , 1 spot "), (3, "Hit , 3 or more spots,")],
)
def test_number_of_spots(make_page, n_spots, caption):
    page = make_page(HIT, spots=np.full((n_spots, 2), 5))
    assert caption in text_of(page)
    assert len(circles(page)) == 2 * n_spots


def test_nothing_of_spots_by_a_model_without(make_page):
    assert "spot" not in text_of(make_page(HIT, MISS))


def test_images_out_of_distribution_come_first(make_page):
    page = make_page(HIT, MISS, MISS, ood_scores=[0.2, 1.5, 21.0])
    text = text_of(page)
    assert (
        "2 of 3 images are out of the distribution of the model's training. They"
        in text
    )
    assert (
        "classified, or are out of the distribution of the model's training, are kept"
        in text
    )
    assert (
        "Miss , kept, since it is out of distribution, out-of-distribution score 21.00"
        in text
    )
    frames = re.findall(r'alt="run.h5 \[(\d+)\]"', page)
    assert frames[:2] == ["3", "2"]


@pytest.mark.parametrize(("ood_scores", "told"), [(None, 0), ([0.2, 0.9], 1)])
def test_no_image_out_of_distribution(make_page, ood_scores, told):
    text = text_of(make_page(HIT, MISS, ood_scores=ood_scores))
    assert text.count("distribution of the model") == told


def test_nothing_is_fetched(make_page):
    page = make_page(HIT, MAYBE, MISS, "no")
    sources = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s]+)", page)
    assert sources
    assert {source.split(",")[0] for source in sources if source[0] != "#"} == {
        "data:image/jpeg;base64"
    }
    assert "<link" not in page
    assert "@import" not in page
    assert re.findall(r"https?://(?!www\.w3\.org/)", page) == []


def test_file_names_are_escaped(make_page):
    page = make_page(HIT, MISS, "no", file=NASTY)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3


def test_hits_and_misses_only_under_their_names(make_page):
    page = make_page(MAYBE, *[MISS] * 3)
    assert "Surest hits" not in page
    misses = page[page.index("Surest misses") :]
    assert misses.count("<img") == 3
    assert "Maybe</b>" not in misses


def test_surest_come_first(make_page):
    hits = [(p, 0.0, 1 - p) for p in (0.6, 0.9, 0.7, 0.8, 0.95, 0.99, 0.65, 0.75)]
    page = make_page(*hits)
    surest = page[page.index("Surest hits") : page.index("Nearest to the threshold")]
    frames = re.findall(r'alt="run.h5 \[(\d+)\]"', surest)
    assert frames == ["6", "5", "2", "4", "8", "3"]
    doubtful = page[page.index("Nearest to the threshold") :]
    assert re.findall(r'alt="run.h5 \[(\d+)\]"', doubtful)[0] == "1"


@pytest.mark.parametrize("n_images", [1, 2, 45, 3000])
def test_runs_of_any_length(make_page, n_images):
    page = make_page(*([HIT, MISS, MISS] * n_images)[:n_images])
    assert page.count("<svg") == 2
    assert len(page) < 1_000_000


def test_page_is_rendered(make_page, browse, tmp_path):
    make_page(HIT, MAYBE, MISS, "no")
    picture = tmp_path / "page.png"
    assert browse(tmp_path / "page.html", picture, 2000) == []
    from matplotlib import image

    seen = image.imread(picture)[..., :3]
    assert seen.shape[:2] == (2000, 1200)
    green = np.abs(seen - [0x1B / 255, 0x78 / 255, 0x37 / 255]).max(axis=2) < 0.02
    assert green[:300].any()
    assert 0.05 < (seen.min(axis=2) < 0.95).mean() < 0.95
    # Nothing is cut off on the right.
    assert (seen[:, -8:] > 0.99).all()
