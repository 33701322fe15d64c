from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile, read_labels

FOLDER = "/data/today"
NAMES = [
    ImageName(f"{FOLDER}/run 7.h5", 1),
    ImageName(f"{FOLDER}/run 7.h5", 2),
    ImageName(f"{FOLDER}/other.h5", 1),
]
TWO_RUNS = [ImageName(f"/data/{run}/data.h5", n) for run in "ab" for n in (1, 2)]


def stored(path) -> list[Label | None]:
    return [a.label for a in read_annotations(path)]


def test_each_label_is_on_disk_at_once(tmp_path):
    path = tmp_path / "labels.txt"
    with LabelFile(path, NAMES) as labels:
        assert not path.exists()
        labels.set(1, Label.HIT)
        assert path.read_text() == (
            "run 7.h5 [1] None\nrun 7.h5 [2] HIT\nother.h5 [1] None\n"
        )
        labels.set(2, Label.MISS)
        labels.set(1, None)
        assert stored(path) == [None, None, Label.MISS]
        assert labels.counts() == {Label.HIT: 0, Label.MAYBE: 0, Label.MISS: 1}
        assert labels.labels == {2: Label.MISS}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "labels.txt",
        "labels.txt.json",
    ]


def test_resume(tmp_path):
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        labels.set(0, Label.MAYBE)
        labels.note(view={"zoom": 1})
    # More images than before are no matter.
    names = [ImageName("/data/new.h5", 1), *NAMES]
    with LabelFile(tmp_path / "labels.txt", names) as labels:
        assert labels.get(1) is Label.MAYBE
        assert labels.notes["view"] == {"zoom": 1}
        labels.set(0, Label.MISS)
    assert read_annotations(tmp_path / "labels.txt")[:2] == [
        Annotation(ImageName("new.h5", 1), Label.MISS),
        Annotation(ImageName("run 7.h5", 1), Label.MAYBE),
    ]


def test_labels_of_other_images_are_refused_by_name(tmp_path):
    path = tmp_path / "labels.txt"
    text = "run 7.h5 [1] HIT\nrun 8.h5 [1] MISS\nrun 8.h5 [2] MISS\n"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"of other images: run 8\.h5 \[1\] is not"):
        LabelFile(path, NAMES)
    assert path.read_text() == text
    # A second try is not kept out by the lock of the first.
    more = [ImageName("/elsewhere/run 8.h5", n) for n in (1, 2)]
    with LabelFile(path, [*NAMES, *more]) as labels:
        assert sum(labels.counts().values()) == 3


def test_unlabelled_lines_of_other_images_do_no_harm(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("elsewhere.h5 [1] None\nother.h5 [1] HIT\n")
    with LabelFile(path, NAMES) as labels:
        assert labels.labels == {2: Label.HIT}


def test_folders_tell_files_of_one_name_apart(tmp_path):
    path = tmp_path / "labels.txt"
    with LabelFile(path, TWO_RUNS) as labels:
        labels.set(2, Label.HIT)
        assert [str(name) for name in labels.short_names] == [
            "a/data.h5 [1]",
            "a/data.h5 [2]",
            "b/data.h5 [1]",
            "b/data.h5 [2]",
        ]
    assert path.read_text() == (
        "a/data.h5 [1] None\na/data.h5 [2] None\n"
        "b/data.h5 [1] HIT\nb/data.h5 [2] None\n"
    )
    with LabelFile(path, TWO_RUNS) as labels:
        assert labels.labels == {2: Label.HIT}


@pytest.mark.parametrize(
    "line", ["data.h5 [2]", "b/data.h5 [2]", "/data/b/data.h5 [2]"]
)
def test_file_with_more_or_fewer_folders_is_resumed(tmp_path, line):
    path = tmp_path / "labels.txt"
    path.write_text(f"{line} MAYBE\n")
    with LabelFile(path, TWO_RUNS[2:]) as labels:
        assert labels.labels == {1: Label.MAYBE}
        labels.set(0, Label.HIT)
    assert path.read_text() == "data.h5 [1] HIT\ndata.h5 [2] MAYBE\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a/data.h5 [1] HIT\ndata.h5 [2] MISS\n",
            r"line 2: data\.h5 \[2\] could be an image of 2 files, /data/a/data\.h5, "
            r"/data/b/data\.h5; write the folder before",
        ),
        (
            "a/data.h5 [2] HIT\n/data/a/data.h5 [2] HIT\n",
            r"line 2: /data/a/data\.h5 \[2\] is labelled twice; keep one",
        ),
        ("c/data.h5 [1] HIT\n", r"of other images: c/data\.h5 \[1\] is not among"),
    ],
)
def test_line_that_fits_no_image_or_several_is_refused(tmp_path, text, message):
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        LabelFile(path, TWO_RUNS)
    assert path.read_text() == text


def test_unlabelled_line_may_fit_several_images(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("data.h5 [1] None\nb/data.h5 [1] HIT\n")
    with LabelFile(path, TWO_RUNS) as labels:
        assert labels.labels == {2: Label.HIT}


def test_labels_of_some_images(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("b/data.h5 [1] HIT\na/data.h5 [1] None\nother.h5 [1] MISS\n")
    labels, others = read_labels(path, TWO_RUNS)
    assert labels == {2: Label.HIT}
    assert others == [Annotation(ImageName("other.h5", 1), Label.MISS)]
    assert others[0].where == f"{path}, line 3"


def test_progress(tmp_path):
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        labels.set(1, Label.MISS)
        said = "1 of 3 images labelled (0 Hit, 0 Maybe, 1 Miss), "
        assert labels.format_progress() == said + "2 left"
        assert labels.format_progress([1, 0]) == said + "1 left"
        assert labels.format_progress([1]) == said + "0 left"


def test_second_person_is_told_who_has_the_file(tmp_path):
    path = tmp_path / "labels.txt"
    me = f"process {os.getpid()}"
    with LabelFile(path, NAMES), pytest.raises(ValueError, match=f"in use by .*{me}"):
        LabelFile(path, NAMES)
    with LabelFile(path, NAMES) as labels:
        assert me in labels.notes["open"]


KILLED = """
import os, signal, sys
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile
labels = LabelFile(sys.argv[1], [ImageName("a.h5", 1), ImageName("a.h5", 2)])
labels.set(0, Label.HIT)
labels.note(view={"zoom": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_process_leaves_its_labels_and_no_lock(tmp_path):
    path = tmp_path / "labels.txt"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with LabelFile(path, [ImageName("a.h5", 1), ImageName("a.h5", 2)]) as labels:
        assert labels.get(0) is Label.HIT
        assert labels.notes["view"] == {"zoom": 1}


def test_label_that_cannot_be_written_is_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "labels.txt"
    with LabelFile(path, NAMES) as labels:
        labels.set(0, Label.HIT)

        def full(*args):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                labels.set(1, Label.MISS)
        assert labels.get(1) is None
        assert stored(path) == [Label.HIT, None, None]
        labels.set(1, Label.MISS)
    assert stored(path) == [Label.HIT, Label.MISS, None]


def test_broken_label_file_is_refused_and_left(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("run 7.h5 [1] HTI\n")
    with pytest.raises(ValueError, match="line 1: 'HTI' is not one of"):
        LabelFile(path, NAMES)
    assert path.read_text() == "run 7.h5 [1] HTI\n"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"view": 3, "open": 7}'])
def test_broken_notes_do_no_harm(tmp_path, text):
    (tmp_path / "labels.txt.json").write_text(text)
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        labels.note(view=1)
    notes = json.loads((tmp_path / "labels.txt.json").read_text())
    assert notes["view"] == 1
    assert notes["open"] is None


def test_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("run 7.h5 [1] HIT\n")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with LabelFile(tmp_path / "link.txt", NAMES) as labels:
        labels.set(1, Label.MISS)
    assert (tmp_path / "link.txt").is_symlink()
    assert stored(tmp_path / "real.txt") == [Label.HIT, Label.MISS, None]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        LabelFile(tmp_path / "gone" / "labels.txt", NAMES)
