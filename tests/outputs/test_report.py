from __future__ import annotations

import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.models.prediction import make_prediction
from dials_cnn_screen.outputs.report import write_report
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.results import (
    FAILED,
    ModelSummary,
    ScreeningResults,
    decide,
)
from dials_cnn_screen.util.provenance import Provenance

PAPER = Decision()
MADE_WITH = Provenance(
    "dials.cnn_screen 'run 1.h5'", "/data/shift", "2026-11-27 03:00:00 CET", "a = <b>"
)
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
    monkeypatch.setattr(Source, "read", lambda source, still: with_spots(30))
    imageset = SimpleNamespace(get_detector=lambda i: None, get_beam=lambda i: None)

    def make(
        *outcomes, file="run.h5", decision=PAPER, spots=None, ood_scores=None
    ) -> str:
        stills = [
            SimpleNamespace(name=ImageName(file, i + 1), imageset=imageset, position=i)
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
        write_report(path, results, stills, MADE_WITH, "Ke et al. (2018)")
        return path.read_text(encoding="utf-8")

    return make


HIT, MAYBE, MISS = (0.9, 0.08, 0.02), (0.2, 0.5, 0.3), (0.01, 0.02, 0.97)


def text_of(page: str) -> str:
    """What a reader sees of the page, figures left out."""
    drawn = r"<svg.*?</svg>|<style>.*?</style>|<script.*?</script>"
    page = re.sub(drawn, "", page, flags=re.DOTALL)
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


def test_what_it_was_made_with(make_page):
    text = text_of(make_page(HIT, MISS))
    assert (
        "2 images of run.h5 Screened in /data/shift, started 2026-11-27 03:00" in text
    )
    assert "Command dials.cnn_screen 'run 1.h5' Folder /data/shift Started" in text
    assert "Parameters other than the default a = <b>" in text
    assert f"; numpy {np.__version__}; torch " in text
    assert "SHA-256 0" in text


def test_hit_loss_is_told(make_page):
    decision = Decision(
        0.1234,
        0.02,
        max_hit_loss=0.01,
        calibrated_on="toys & tests",
        calibration_hits=300,
    )
    text = text_of(make_page(HIT, MISS, decision=decision))
    told = "is 0.1234 or more. At this threshold at most 1% of the Hits and Maybes"
    assert told in text
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
    assert NASTY not in page
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "\\u003cscript\\u003e" in page  # in the table of all images


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
    # Pictures at full pixels have a greatest size each, and there are few.
    pictures = re.findall(r'data-large="([^"]*)"', page)
    assert len(pictures) == page.count("<img") <= 20
    assert max(map(len, pictures)) < 1_200_000
    assert len(page) - sum(map(len, pictures)) < 1_000_000


def test_table_of_all_images(make_page):
    page = make_page(HIT, MAYBE, "broken", MISS, spots=np.full((2, 2), 5))
    start = page.index('id="image-table">') + len('id="image-table">')
    table = json.loads(page[start : page.index("</script>", start)])
    assert [row[:4] for row in table["rows"]] == [
        [0, 1, 0, 1],
        [0, 2, 1, 1],
        [0, 3, 3, 2],
        [0, 4, 2, 0],
    ]


def test_virtual_powder(make_page):
    text = text_of(make_page(*[HIT] * 60, MISS, MISS, MAYBE))
    assert "Maximum of 50 of 60 hits Maximum of 2 of 2 misses" in text


def test_without_hits_there_is_their_powder_neither(make_page):
    text = text_of(make_page(MAYBE))
    assert "Virtual powder" not in text


def test_spots_of_hits(make_page):
    page = make_page(HIT, MISS, spots=np.full((3, 2), 5))
    assert "Spots of a hit, by the model: median 3" in text_of(page)


def test_pictures_can_be_enlarged(make_page, browse_and):
    """In a browser: each pixel of it, its circles, the command that opens it."""
    make_page(HIT, MISS, file="a b/run.h5", spots=np.full((12, 2), 5))
    script = """
      const part = name => document.getElementById("enlarged-" + name);
      document.querySelectorAll(".enlarges")[3].click();
      part("circles").click();
      setTimeout(() => part("pixels").click(), 300);
    """
    dom = browse_and("page.html", script)
    dialog = dom[dom.index('<dialog id="enlarged"') : dom.index("</dialog>")]
    assert "open" in dialog[: dialog.index(">")]
    assert "run.h5 [2], Miss</b>" in dialog
    assert "<code>dials.image_viewer 'a b/run.h5'</code>" in dialog
    assert 'class="picture unmarked" style="width: 1440px;"' in dialog
    assert dialog.count("<circle") == 12


def test_table_is_sorted_and_filtered(make_page, browse_and):
    make_page(MISS, HIT, "no", MAYBE, HIT, file="run.h5")
    dom = browse_and(
        "page.html",
        """
        document.querySelector("[data-column='4']").click();
        document.querySelectorAll("#images tbody tr")[1].click();
        """,
    )
    part = dom[dom.index("<tbody><tr tabindex") : dom.index('id="image-table"')]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", r) for r in part.split("<tr")[1:]]
    # The highest P(Hit) + P(Maybe) first; what has none last.
    assert [row[1] for row in rows] == ["2", "5", "4", "1", "3"]
    assert rows[0] == ["run.h5", "2", "Hit", "yes", "0.980", "0.900"]
    assert rows[4] == ["run.h5", "3", FAILED, "not classified", "", ""]
    assert "dials.image_viewer run.h5</code> and set Jump to 5" in part


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
