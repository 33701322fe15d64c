from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("sklearn")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_explain import run

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

# One process, unless a test says otherwise.
ONE = "mp.nproc=1"
# Of level_model: Miss below 100, Maybe to 200, Hit above.
LEVELS = [30, 60, 90, 99, 101, 120, 150, 180, 250, 260, 270, 280]
OUTPUTS = {"cnn_explain.html", "cnn_explain.json", "dials.cnn_explain.log"}


@pytest.fixture
def model(level_model) -> str:
    return f"model={level_model}"


@pytest.fixture
def images(write_levels) -> str:
    return str(write_levels("run1.h5", LEVELS))


@pytest.fixture
def labels() -> str:
    """Labels of the first ten images, three of them not as the model has it."""
    names = ["MISS"] * 3 + ["HIT"] + ["MAYBE"] * 3 + ["MISS", "MAYBE", "None"]
    lines = [f"run1.h5 [{i}] {name}\n" for i, name in enumerate(names, start=1)]
    Path("labels.txt").write_text("".join(lines))
    return "annotation=labels.txt"


def results() -> dict:
    return json.loads(Path("cnn_explain.json").read_text())


def column(key: str) -> list:
    return [image[key] for image in results()["images"]]


def page() -> str:
    return Path("cnn_explain.html").read_text(encoding="utf-8")


def text() -> str:
    """What a reader sees of the page."""
    seen = re.sub(r"<(svg|style|script).*?</\1>", "", page(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", seen)).split())


def log() -> str:
    return " ".join(Path("dials.cnn_explain.log").read_text().split())


# Good input


def test_every_image_has_its_entry(images, model, labels):
    run([images, model, labels, ONE])
    assert {path.name for path in Path().iterdir()} == OUTPUTS | {
        "run1.h5",
        "labels.txt",
    }
    assert results()["program"] == "dials.cnn_explain"
    assert results()["model"]["name"] == "level"
    assert results()["summary"] == {
        "given": 12,
        "images": 12,
        "hit": 4,
        "maybe": 4,
        "miss": 4,
        "failed": 0,
        "labelled": 9,
    }
    assert column("index") == list(range(12))
    assert column("frame") == list(range(1, 13))
    assert column("class") == ["Miss"] * 4 + ["Maybe"] * 4 + ["Hit"] * 4
    assert column("label")[7:] == ["Miss", "Maybe", None, None, None]
    assert not {"kept", "kept_because"} & set(results()["images"][0])
    assert "4 Hit, 4 Maybe, 4 Miss; 3 of 9 labelled images are misclassified" in text()


def test_map_and_neighbours(images, model):
    run([images, model, ONE])
    places = np.array([column("x"), column("y")])
    assert places.min() >= 0
    assert places.max() <= 1
    assert results()["map"]["perplexity"] == round(11 / 3, 2)
    # The features of level_model go with the level.
    order = [[near["index"] for near in nearest] for nearest in column("nearest")]
    assert order[0] == list(range(1, 12))
    assert order[3][0] == 4
    assert order[11][:3] == [10, 9, 8]
    distances = [near["distance"] for near in column("nearest")[0]]
    assert distances == sorted(distances)
    assert page().count("<circle data-point=") == 24


def test_the_most_doubtful_are_explained(images, model):
    run([images, model, ONE])
    explained = [i for i, image in enumerate(results()["images"]) if "reason" in image]
    assert explained == [2, 3, 4]
    assert "Why run1.h5 [5] is a Maybe" in text()


def test_named_images_are_explained(images, model, labels):
    run([images, model, labels, "image=7,0", ONE])
    explained = [i for i, image in enumerate(results()["images"]) if "reason" in image]
    assert explained == [0, 7]
    assert "Why run1.h5 [8] is a Maybe, labelled Miss by the expert" in text()
    assert results()["images"][7]["reason"]["label"] == "Miss"
    assert "The loss is that of Miss, the expert's label." in text()
    assert text().index("[8] is a Maybe") < text().index("[1] is a Miss")


def test_misclassified_are_shown(images, model, labels):
    run([images, model, labels, ONE])
    lost = "Lost hits (labelled Hit or Maybe, called Miss)"
    false_alarms = "False alarms (labelled Miss, called Hit or Maybe)"
    assert f"{lost}: 1 {false_alarms}: 1" in log()
    shown = text()[text().index(lost) :]
    assert "Miss , labelled Hit by the expert, index 3 run1.h5 [4]" in shown
    shown = shown[shown.index(false_alarms) :]
    assert "Maybe , labelled Miss by the expert, index 7 run1.h5 [8]" in shown


def test_nearest_to(images, model):
    run([images, model, "nearest_to=11", ONE])
    sheet = page()[page().index("Nearest to run1.h5 [12]") :]
    frames = re.findall(r'alt="run1.h5 \[(\d+)\]"', sheet)
    assert frames[:4] == ["12", "11", "10", "9"]
    distance = column("nearest")[11][0]["distance"]
    assert f"index 10, distance {distance:.3g}" in " ".join(sheet.split())


def test_spots_are_weighed(write_cxidb76, spot_model):
    rng = np.random.default_rng(0)
    data = rng.poisson(100, (10, 200, 200)).astype(np.int32)
    data[:, 30, 40] += 900
    data[:, 60, 150] += 600
    write_cxidb76("spots.h5", data, kind="Rayonix")
    run(["spots.h5", f"model={spot_model}", "image=2", ONE])
    candidates = results()["images"][2]["reason"]["candidates"]
    found = {(c["slow"], c["fast"]) for c in candidates if c["p_spot"] > 0.5}
    assert found == {(30, 40), (60, 150)}
    # spot_model has a Hit always, whatever the spots.
    p_keep = 1 - results()["images"][2]["p_miss"]
    assert all(abs(c["without"] - p_keep) < 1e-3 for c in candidates)
    assert results()["images"][2]["reason"]["deciding"] is None
    assert "2 are likelier Bragg spots than not" in text()
    assert 'cx="40.5" cy="30.5" r="16"' in page()


def test_some_of_many_images(images, model):
    run([images, model, "max_images=5", "image=1,10", "random_seed=3", ONE])
    assert len(column("index")) == 5
    assert {1, 10} <= set(column("index"))
    assert column("frame") == [i + 1 for i in column("index")]
    assert results()["summary"]["given"] == 12
    assert "Screening 5 of 12 images, drawn at random" in log()
    assert "5 of the 12 images given were classified" in text()


def test_processes_give_the_same(images, model):
    run([images, model, ONE])
    alone = results()
    run([images, model, "mp.nproc=2"])
    assert results() == alone


def test_files_of_one_name_in_two_folders(write_levels, model):
    for folder, levels in (("run1", LEVELS[:6]), ("run2", LEVELS[6:])):
        Path(folder).mkdir()
        write_levels(f"{folder}/data.h5", levels)
    Path("labels.txt").write_text("run1/data.h5 [2] MISS\nrun2/data.h5 [2] MISS\n")
    files = ["run1/data.h5", "run2/data.h5"]
    run([*files, model, "annotation=labels.txt", "image=7", ONE])
    assert column("file") == ["run1/data.h5"] * 6 + ["run2/data.h5"] * 6
    labelled = [i for i, label in enumerate(column("label")) if label]
    assert labelled == [1, 7]
    assert "Why run2/data.h5 [2] is a Maybe, labelled Miss by the expert" in text()
    assert "run2/data.h5 [2] (index 7), Maybe:" in log()


def test_no_files_are_wanted(images, model):
    run([images, model, "output.html=None", "output.json=None", ONE])
    assert {path.name for path in Path().iterdir()} == {
        "run1.h5",
        "dials.cnn_explain.log",
    }


# Bad input


@pytest.mark.parametrize("n", [1, 9])
def test_few_images_have_no_map(write_levels, model, n):
    images = str(write_levels("few.h5", LEVELS[:n]))
    run([images, model, "nearest_to=0", ONE])
    there_are = "there is 1" if n == 1 else f"there are {n}"
    reason = f"it takes 10 images that could be classified, and {there_are}"
    assert results()["map"]["missing"] == reason
    assert column("x") == [None] * n
    assert f"There is no map: {reason}" in text()
    assert f"No map: {reason}" in log()
    assert ("Nearest to" in text()) == (n > 1)
    assert ("nearest_to=0: this image, or every other one" in log()) == (n == 1)


def test_images_that_can_not_be_classified(write_levels, model):
    # A frame of level 0 is flat where it is not masked.
    images = str(write_levels("run1.h5", [0, *LEVELS]))
    run([images, model, "image=0,5", "nearest_to=0", ONE])
    assert results()["summary"]["failed"] == 1
    assert column("class")[0] is None
    assert column("nearest")[0] == []
    assert "run1.h5 [1] every usable pixel has the same value" in text()
    assert "run1.h5 [1] could not be classified" in log()
    assert text().count("Why run1.h5") == 1


def test_no_image_can_be_classified(write_levels, model):
    images = str(write_levels("run1.h5", [0, 0]))
    with pytest.raises(Sorry, match=r"none of the 2 images .* run1.h5 \[1\]: every"):
        run([images, model, ONE])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("image=12", r"image=12: there are 12 images, 0 to 11"),
        ("nearest_to=99", r"nearest_to=99: there are 12 images, 0 to 11"),
        ("image=-1", r"-1"),
        ("model=none.safetensors", r"'none.safetensors' is not a file"),
        ("annotation=none.txt", r"none.txt"),
        ("output.html=none/page.html", r"there is no folder"),
        ("max_images=0", r"max_images"),
        ("output.json=cnn_explain.html", r"is the name of two outputs"),
        ("image=1,2,3,4,5,6,7,8,9,10,11,0,1", r"image"),
    ],
)
def test_what_is_not_there_is_said(images, model, word, message):
    with pytest.raises(Sorry, match=message) as error:
        run([images, *([model] if "model" not in word else []), word, ONE])
    assert "\n" not in str(error.value)
    assert not Path("cnn_explain.json").exists()


def test_labels_of_images_that_are_not_there(images, model, labels):
    with open("labels.txt", "a") as out:
        out.write("run1.h5 [13] HIT\n")
    with pytest.raises(Sorry, match=r"line 11: run1.h5 \[13\] is labelled, but not"):
        run([images, model, labels, ONE])


def test_no_images():
    with pytest.raises(Sorry, match="no images"):
        run([ONE])


@pytest.mark.parametrize("args", [[], ["-h"]])
def test_help(args, capsys):
    with pytest.raises(SystemExit) as end:
        run(args)
    assert end.value.code == 0
    assert "Show why stills were classified as Hit, Maybe or Miss." in (
        capsys.readouterr().out
    )
    assert list(Path().iterdir()) == []


# DIALS's own parser may import some of these: what counts is what the help adds.
HELP = """
import sys
import dials.util.options
before = set(sys.modules)
from dials_cnn_screen.command_line.cnn_explain import run
try:
    run(["-h"])
except SystemExit:
    added = {name.partition(".")[0] for name in set(sys.modules) - before}
    heavy = {"torch", "numba", "matplotlib", "sklearn", "scipy", "jinja2", "h5py"}
    print("imports:", *sorted(added & heavy))
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imports:"


# The page


def test_nothing_is_fetched_and_names_are_escaped(write_levels, model):
    images = str(write_levels("<b>&'x.h5", LEVELS))
    run([images, model, ONE])
    sources = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']([^\"']+)", page())
    assert sources
    assert all(s.startswith(("data:image/jpeg", "data:image/png")) for s in sources)
    assert "default-src 'none'" in page()
    assert re.findall(r"https?://", page()) == []
    assert "<b>&'x" not in page()


# Points at a point, clicks on it, and on another one twice.
ACT = """
const all = [...document.querySelectorAll("[data-point]")];
const act = (i, name) => all[i].dispatchEvent(new MouseEvent(name));
act(3, "mouseenter");
act(3, "click");
act(5, "click");
act(5, "click");
"""


def test_points_are_seen_and_pinned(images, model, labels):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    run([images, model, labels, "output.html=page.html", ONE])
    opened = Path("page.html").read_text(encoding="utf-8")
    Path("acted.html").write_text(opened + f"<script>{ACT}</script>", encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={Path('browser').resolve()}",
            "--dump-dom",
            f"file://{Path('acted.html').resolve()}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    dom = done.stdout
    card = re.search(r'id="shot">(.*?)</div>', dom, re.DOTALL)[1]
    assert card.startswith('<img src="data:image/jpeg;base64,')
    assert (
        "run1.h5 [4], index 3<br>Miss, labelled Hit by the expert<br>P(Hit) 0.0" in card
    )
    pinned = dom[dom.index('id="pinned"') : dom.index("<h2>Why")]
    assert re.findall(r'data-card="(\d+)"', pinned) == ["3"]
    # In both maps.
    assert len(re.findall(r'class="under pinned"', dom)) == 2
