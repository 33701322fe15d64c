from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.label_file import LabelFile, name_images

NAMES = [("run 7.h5", 1), ("run 7.h5", 2), ("other.h5", 1)]


def stored(path) -> list[Label | None]:
    return [a.label for a in read_annotations(path)]


def test_each_label_is_on_disk_at_once(tmp_path):
    path = tmp_path / "labels.txt"
    with LabelFile(path, NAMES) as labels:
        assert not path.exists()
        labels.set(NAMES[1], Label.HIT)
        assert path.read_text() == (
            "run 7.h5 [1] None\nrun 7.h5 [2] HIT\nother.h5 [1] None\n"
        )
        labels.set(NAMES[2], Label.MISS)
        labels.set(NAMES[1], None)
        assert stored(path) == [None, None, Label.MISS]
        assert labels.counts() == {Label.MISS: 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "labels.txt",
        "labels.txt.json",
    ]


def test_resume(tmp_path):
    with LabelFile(tmp_path / "labels.txt", NAMES) as labels:
        labels.set(NAMES[0], Label.MAYBE)
        labels.note(view={"zoom": 1})
    # More images than before are no matter.
    names = [("new.h5", 1), *NAMES]
    with LabelFile(tmp_path / "labels.txt", names) as labels:
        assert labels.get(NAMES[0]) is Label.MAYBE
        assert labels.notes["view"] == {"zoom": 1}
        labels.set(("new.h5", 1), Label.MISS)
    assert read_annotations(tmp_path / "labels.txt")[:2] == [
        Annotation("new.h5", 1, Label.MISS),
        Annotation("run 7.h5", 1, Label.MAYBE),
    ]


def test_labels_of_other_images_are_refused_by_name(tmp_path):
    path = tmp_path / "labels.txt"
    text = "run 7.h5 [1] HIT\nrun 8.h5 [1] MISS\nrun 8.h5 [2] MISS\n"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"of other images, run 8\.h5 \[1\] is not"):
        LabelFile(path, NAMES)
    assert path.read_text() == text
    # A second try is not kept out by the lock of the first.
    with LabelFile(path, [*NAMES, ("run 8.h5", 1), ("run 8.h5", 2)]) as labels:
        assert sum(labels.counts().values()) == 3


def test_unlabelled_lines_of_other_images_do_no_harm(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("elsewhere.h5 [1] None\nother.h5 [1] HIT\n")
    with LabelFile(path, NAMES) as labels:
        assert labels.counts() == {Label.HIT: 1}


def test_folders_tell_files_of_one_name_apart():
    images = [("/d/1/a/x.h5", 1), ("/d/2/a/x.h5", 1), ("/d/2/y.h5", 3)]
    assert name_images(images) == [("1/a/x.h5", 1), ("2/a/x.h5", 1), ("y.h5", 3)]
    images = [("/d/x.cbf", 1), ("/d/y.cbf", 1), ("/d/y.cbf", 2)]
    assert name_images(images) == [("x.cbf", 1), ("y.cbf", 1), ("y.cbf", 2)]


def test_second_person_is_told_who_has_the_file(tmp_path):
    path = tmp_path / "labels.txt"
    me = f"process {os.getpid()}"
    with LabelFile(path, NAMES), pytest.raises(ValueError, match=f"open al.*{me}"):
        LabelFile(path, NAMES)
    with LabelFile(path, NAMES) as labels:
        assert me in labels.notes["open"]


KILLED = """
import os, signal, sys
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.label_file import LabelFile, name_images
labels = LabelFile(sys.argv[1], [("a.h5", 1), ("a.h5", 2)])
labels.set(("a.h5", 1), Label.HIT)
labels.note(view={"zoom": 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_process_leaves_its_labels_and_no_lock(tmp_path):
    path = tmp_path / "labels.txt"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with LabelFile(path, [("a.h5", 1), ("a.h5", 2)]) as labels:
        assert labels.get(("a.h5", 1)) is Label.HIT
        assert labels.notes["view"] == {"zoom": 1}


def test_label_that_cannot_be_written_is_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "labels.txt"
    with LabelFile(path, NAMES) as labels:
        labels.set(NAMES[0], Label.HIT)

        def full(*args):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                labels.set(NAMES[1], Label.MISS)
        assert labels.get(NAMES[1]) is None
        assert stored(path) == [Label.HIT, None, None]
        labels.set(NAMES[1], Label.MISS)
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
        labels.set(NAMES[1], Label.MISS)
    assert (tmp_path / "link.txt").is_symlink()
    assert stored(tmp_path / "real.txt") == [Label.HIT, Label.MISS, None]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        LabelFile(tmp_path / "gone" / "labels.txt", NAMES)
