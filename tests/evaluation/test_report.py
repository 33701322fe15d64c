from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

from dials_cnn_screen.evaluation.figures import evaluate
from dials_cnn_screen.evaluation.input import (
    Counted,
    Labelled,
    Scored,
    describe_images,
    judged,
)
from dials_cnn_screen.evaluation.report import write_report
from dials_cnn_screen.images.frames import Frame
from dials_cnn_screen.outputs import pictures

NASTY = "<script>alert('x')</script>&.h5"
P = {"Hit": (0.9, 0.08, 0.02), "Maybe": (0.2, 0.4, 0.4), "Miss": (0.1, 0.1, 0.8)}


def frame(*_) -> Frame:
    data = np.random.default_rng(1).poisson(20, (900, 1000)).astype(np.float32)
    return Frame(data, np.ones(data.shape, dtype=bool), (450.0, 500.0))


def entry(number: int, said: str | None) -> dict:
    p = (None,) * 3 if said is None else P[said]
    return {
        **dict(zip(("p_hit", "p_maybe", "p_miss"), p, strict=True)),
        "file": "run.h5",
        "frame": number + 1,
        "class": said,
        "error": "out of <ink>" if said is None else None,
        "kept": said != "Miss",
        "unlike_training": None,
        "n_spots": None if said is None else 3,
        "spots": None if said is None else [[449, 499]],
    }


@pytest.fixture
def make_page(tmp_path, monkeypatch):
    """Function make(labels, said, n_spots, ...) -> the page.

    labels: numbers of the classes. said: titles of the classes by the CNN, None for an
    image that could not be judged. n_spots: by spot finding.
    """
    monkeypatch.setattr(pictures, "read_frame", frame)

    def make(
        labels, said=None, n_spots=None, file="run.h5", with_images=True, min_spots=5
    ) -> str:
        names = [(file, i + 1) for i in range(len(labels))]
        stills = [
            SimpleNamespace(file=file, frame=i, imageset=None, position=i)
            for _, i in names
        ]
        training = np.zeros(len(labels), bool)
        images = Labelled(names, np.array(labels), training, stills)
        model = {"name": "m", "trained_on": "toys & <others>", "most_spots": 3}
        scored = counted = None
        if said is not None:
            entries = [{**entry(i, x), "file": file} for i, x in enumerate(said)]
            scored = Scored(model, entries, None)
        if n_spots is not None:
            counted = Counted(np.array(n_spots), "counts.txt", min_spots)
        cut = None if counted is None else min_spots
        results = {
            "program": "dials.cnn_evaluate",
            "version": "1",
            "versions": {"DIALS": "3"},
            "parameters": "decision.threshold = 0.5",
            "model": scored and model,
            **evaluate(judged(images, scored, counted), training, 0.5, cut),
            "images": describe_images(images, scored, counted, 0.5),
        }
        if scored is not None:
            results["cnn"]["seconds"] = None
        if counted is not None:
            results["spotfinder"] |= {"source": "counts.txt", "seconds": None}
            results["spotfinder"]["parameters"] = None
        if not with_images:
            images = Labelled(names, images.labels, training, None)
        write_report(
            tmp_path / "page.html", results, images, scored, "Ke et al. (2018)"
        )
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return make


LABELS = [0, 0, 1, 2, 2, 2, 0]
SAID = ["Hit", "Miss", "Maybe", "Miss", "Hit", "Maybe", None]
SPOTS = [40, 12, 3, 0, 5, 2, 0]


def text_of(page: str) -> str:
    """What a reader sees of the page, figures left out."""
    page = re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def galleries(page: str) -> dict[str, list[str]]:
    """Title of each gallery, and the frames that it shows."""
    parts = re.findall(
        r"<h2>((?:Hit or Maybe|Miss), [^<]*) by [^<]*</h2>(.*?)(?=<h2>)",
        page,
        re.DOTALL,
    )
    return {
        title: re.findall(r'alt="run.h5 \[(\d+)\]"', content)
        for title, content in parts
    }


def test_what_the_page_says(make_page):
    text = text_of(make_page(LABELS, SAID, SPOTS))
    assert "7 images against an expert's labels" in text
    assert "the expert says 3 Hit, 1 Maybe, 3 Miss" in text
    assert "CNN, P(Hit) + P(Maybe) of 0.5 or more 75.0% of Hit or Maybe kept" in text
    assert "5 or more spots 50.0% of Hit or Maybe kept" in text
    assert "run.h5 [7] out of &lt;ink&gt;" in text
    assert "toys &amp; &lt;others&gt;" in text
    assert "decision.threshold = 0.5" in text
    assert "Please cite: Ke et al. (2018)" in text


def test_mistakes_are_shown_and_can_be_found(make_page):
    page = make_page(LABELS, SAID, SPOTS)
    assert galleries(page) == {
        "Hit or Maybe, rejected": ["2"],
        "Miss, kept": ["5", "6"],
    }
    text = text_of(page)
    assert "Miss , to the expert Hit , 3 or more spots, 12 by spot finding run" in text


def test_mistakes_of_a_cut_in_spots(make_page):
    page = make_page(LABELS, None, SPOTS)
    assert "rejected by a cut at 5 spots: 2" in page
    frames = {"Hit or Maybe, rejected": ["7", "3"], "Miss, kept": ["5"]}
    assert galleries(page) == frames
    assert "3 spots , to the expert Maybe run.h5 [3]" in text_of(page)


def test_worst_mistakes_come_first_and_only_some(make_page):
    page = make_page([2] * 30, ["Maybe"] * 15 + ["Hit"] * 15)
    assert "Miss, kept by the CNN: 30, the worst first" in page
    assert galleries(page)["Miss, kept"] == [str(i) for i in range(16, 25)]


def test_images_that_cannot_be_read_are_not_shown(make_page, monkeypatch):
    def fail(*_):
        raise OSError("gone")

    monkeypatch.setattr(pictures, "read_frame", fail)
    page = make_page(LABELS, SAID, SPOTS)
    assert "Miss, kept by the CNN: 2" in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ((LABELS, SAID, SPOTS), 4),
        ((LABELS, SAID), 3),
        ((LABELS, None, SPOTS), 3),
        (([0, 1], ["Hit", "Miss"], [4, 8]), 3),
        (([2], [None], [0]), 2),
    ],
)
def test_figures_of_what_there_is(make_page, given, n):
    assert make_page(*given, with_images=False).count("<figure>") == n


def test_no_mistakes(make_page):
    page = make_page([0, 2], ["Hit", "Miss"])
    assert galleries(page) == {}
    assert "The CNN was wrong on no image." in page


def test_without_images(make_page):
    page = make_page(LABELS, SAID, SPOTS, with_images=False)
    assert "<img" not in page
    assert "No pictures of what was classified wrongly" in page


def test_file_names_are_escaped(make_page):
    page = make_page(LABELS, SAID, SPOTS, file=NASTY)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_page_is_rendered(make_page, browse, tmp_path):
    make_page(LABELS, SAID, SPOTS)
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
