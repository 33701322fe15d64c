"""Streams with senders as they should be, and as they should not."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dials")
pytest.importorskip("zmq", reason="no pyzmq")

import zmq
from dials.util import Sorry

from dials_cnn_screen.live import plain, simplon
from dials_cnn_screen.live.run import ENDED
from dials_cnn_screen.live.send import (
    FORMATS,
    Sender,
    encode_series,
    fit_type,
    send_at_rate,
)
from dials_cnn_screen.live.series import Header
from dials_cnn_screen.live.stream import MOST_BYTES, open_socket

LEVELS = [50, 150, 250, 50]
CLASSES = ["Miss", "Maybe", "Hit", "Miss"]
HEADER = Header((40.0, 40.0), (0.0, 60000.0), None, len(LEVELS))


def images(levels=LEVELS):
    """Nearly flat images of these levels, as write_levels has them."""
    ripple = np.indices((80, 80)).sum(axis=0) % 2
    return [(level + ripple).astype(np.uint16) for level in levels]


def series(name="plain", levels=LEVELS, number=1, compression="none"):
    header = Header(HEADER.beam_centre, HEADER.trusted_range, None, len(levels))
    return list(encode_series(name, number, header, images(levels), compression))


@pytest.fixture
def address(in_tmp_path):
    return f"ipc://{in_tmp_path}/stream"


@pytest.fixture
def stream(address, live_run):
    """The function stream(messages, *args): scores, with a sender beside the run."""

    def stream(messages, *args, rate=None):
        sender = Sender(address)
        sending = (sender, messages, rate)
        thread = threading.Thread(target=send_at_rate, args=sending)
        thread.start()
        try:
            return live_run(address, "idle_time=2", *args)
        finally:
            thread.join()
            sender.close()

    return stream


def status():
    return json.loads(Path("cnn_live.json").read_text())


def classes(scores):
    return [image["class"] for image in scores.values()]


def numbers(fault):
    return status()["faults"][fault]["number"]


FAULTS = (
    "repeated images",
    "late images",
    "broken messages",
    "connections that ended within a series",
    "missing images",
)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_every_kind_of_stream(stream, name, compression):
    if name == "stream2":
        pytest.importorskip("cbor2")
    if compression != "none":
        pytest.importorskip("lz4")
        pytest.importorskip("dectris")
    scores = stream(series(name, compression=compression))
    assert list(scores) == [("series_1", i) for i in (1, 2, 3, 4)]
    assert classes(scores) == CLASSES
    assert [numbers(fault) for fault in FAULTS] == [0] * len(FAULTS)
    assert not Path("hits.expt").exists()


def test_as_the_same_images_of_a_file(stream, level_model, write_levels):
    from dials_cnn_screen.command_line.cnn_screen import run

    scores = stream(series("simplon"), "output.image_list=kept.txt")
    assert Path("kept.txt").read_text() == "series_1 [2]\nseries_1 [3]\n"
    write_levels("a.h5", LEVELS)
    run(["a.h5", f"model={level_model}", "mp.nproc=1"])
    expected = json.loads(Path("cnn_screen.json").read_text())["images"]
    found = [image["p_keep"] for image in scores.values()]
    assert found == [image["p_keep"] for image in expected]


def test_a_sender_that_repeats_drops_and_shuffles(stream):
    start, *shots, end = series(levels=[50, 150, 250, 50, 150, 250, 50, 50])
    sent = [shots[i - 1] for i in (1, 3, 3, 2, 6, 6, 1, 7)]
    scores = stream([start, *sent, end])
    assert [number for _, number in scores] == [1, 3, 2, 6, 7]
    assert classes(scores) == ["Miss", "Hit", "Maybe", "Hit", "Miss"]
    faults = status()["faults"]
    assert faults["repeated images"] == {
        "number": 3,
        "latest": ["series_1 [3]", "series_1 [6]", "series_1 [1]"],
    }
    assert faults["late images"] == {"number": 1, "latest": ["series_1 [2]"]}
    assert faults["missing images"] == {"number": 3, "latest": ["series_1 4-5, 8"]}
    page = Path("cnn_live.html").read_text()
    assert "3 missing images: series_1 4-5, 8." in page


def test_a_sender_that_truncates_and_lies(stream):
    start, first, second, _, fourth, end = series()
    head = json.loads(second[0])
    lies = [
        [json.dumps(head | {"shape": [8000, 8000]}).encode(), second[1]],
        [json.dumps(head | {"number": 3, "shape": [2**40, 4]}).encode(), second[1]],
        [json.dumps(head | {"number": 99}).encode(), second[1]],
    ]
    broken = [[b"garbage"], [first[0][:20]], [b"\x80\x04\x95" * 20]]
    scores = stream([start, first, *broken, *lies, [fourth[0], fourth[1][:100]], end])
    assert [number for _, number in scores] == [1, 2, 3, 99, 4]
    errors = [image["error"] for image in scores.values()]
    assert errors[0] is None
    assert errors[1] == "the image has 12800 bytes and not 128000000"
    assert "is none of an image" in errors[2]
    assert errors[3] == "its series has 4 images"
    assert errors[4] == "the image has 100 bytes and not 12800"
    assert all(image["kept"] for image in list(scores.values())[1:])
    assert [numbers(fault) for fault in FAULTS] == [0, 0, 3, 0, 0]
    assert status()["images"]["not_classified"] == 4


@pytest.fixture
def slow(monkeypatch):
    """Each image takes 50 ms more to read."""
    from dials_cnn_screen.live import stream

    make = stream.make_stream_frame
    wait = threading.Event()
    monkeypatch.setattr(
        stream, "make_stream_frame", lambda *args: wait.wait(0.05) or make(*args)
    )


N_FAST = 120


def test_a_sender_that_is_too_fast_loses_nothing(stream, slow):
    """40 images/s can be classified; they come as fast as they can be sent."""
    messages = series(levels=LEVELS * (N_FAST // 4))
    # Room for ten images.
    scores = stream(messages, "stream.queue=0.00013")
    assert [number for _, number in scores] == list(range(1, N_FAST + 1))
    left = [image for image in scores.values() if image["class"] is None]
    # At least those that there is room for.
    assert 20 < len(left) <= N_FAST - 10
    assert all(image["kept"] for image in left)
    assert all("the queue was full" in image["error"] for image in left)
    for image, expected in zip(scores.values(), CLASSES * (N_FAST // 4), strict=True):
        assert image["class"] in (None, expected)
    assert status()["images"]["queue_full"] == len(left)
    assert [numbers(fault) for fault in FAULTS] == [0] * len(FAULTS)
    assert f"{len(left)} images came faster" in Path("cnn_live.html").read_text()


def test_a_sender_that_is_too_fast_waits(stream, slow):
    messages = series(levels=LEVELS * (N_FAST // 4))
    scores = stream(messages, "stream.queue=0.00013", "stream.when_full=wait")
    assert classes(scores) == CLASSES * (N_FAST // 4)
    assert status()["images"]["queue_full"] == 0


def test_what_waits_at_the_end_is_kept(stream, monkeypatch):
    """Ctrl-C while images wait."""
    from dials_cnn_screen.live import session
    from dials_cnn_screen.live import stream as streams
    from dials_cnn_screen.util.interrupts import Interrupted

    make, add, ended = streams.make_stream_frame, session.Session._add, []

    def hold(*args):
        """Classify some, and no more before the end."""
        while args[0].mean() > 100 and not ended:
            time.sleep(0.02)
        return make(*args)

    def interrupt(self, done):
        add(self, done)
        if len(self.record.done) == 8:
            while self.run.intake.behind()[0] < 5:
                time.sleep(0.02)
            ended.append(True)
            raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(streams, "make_stream_frame", hold)
    monkeypatch.setattr(session.Session, "_add", interrupt)
    scores = stream(series(levels=[50] * 8 + [250] * 12), "output.lines=lines")
    errors = [image["error"] for image in scores.values()]
    assert errors[:8] == [None] * 8
    # Those that were being classified came to their end.
    assert set(errors[8:10]) <= {None, ENDED}
    assert errors[10:] == [ENDED] * len(errors[10:])
    assert 13 <= len(errors) <= 20
    assert all(image["kept"] for image in list(scores.values())[8:])


def test_a_series_joined_late_needs_a_geometry(stream, write_levels):
    from dxtbx.model.experiment_list import ExperimentListFactory

    _, *shots, end = series()
    missing = "the stream does not say where the beam centre is; give reference_geom"
    with pytest.raises(Sorry, match=rf"none of the 4 images .*: {missing}"):
        stream([*shots, end])
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    assert all(image["kept"] and missing in image["error"] for image in images)
    write_levels("a.h5", [50])
    ExperimentListFactory.from_filenames(["a.h5"]).as_file("reference.expt")
    scores = stream([*shots, end], "reference_geometry=reference.expt")
    assert classes(scores) == CLASSES


def test_a_mask_and_markers(stream):
    """Masked pixels, and those of the greatest values, are not used."""
    shots = images()
    for shot in shots:
        shot[:, 10:20] = 65535
        shot[:, 20:30] = 65534
    parts = simplon.encode_start(1, HEADER)
    mask = np.zeros((80, 80), np.uint32)
    mask[50:60] = 1
    head = {"htype": "dpixelmask-1.0", "shape": [80, 80], "type": "uint32"}
    parts += [json.dumps(head).encode(), mask.tobytes()]
    for shot in shots:
        shot[50:60] = 5000
    sent = [simplon.encode_image(1, i, s, "none") for i, s in enumerate(shots, 1)]
    scores = stream([parts, *sent, simplon.encode_end(1)])
    # A model that sees nothing there sees less, but not more.
    assert classes(scores)[0] == classes(scores)[3] == "Miss"
    assert all(image["error"] is None for image in scores.values())


def test_series_whose_numbers_begin_anew(stream):
    scores = stream([*series(), *series(levels=[250]), *series(levels=[50], number=2)])
    expected = [("series_1", i) for i in (1, 2, 3, 4)]
    assert list(scores) == [*expected, ("series_1.2", 1), ("series_2", 1)]
    assert classes(scores) == [*CLASSES, "Hit", "Miss"]
    assert [numbers(fault) for fault in FAULTS] == [0] * len(FAULTS)


def test_resume_does_not_classify_twice(stream):
    start, *shots, end = series()
    stream([start, *shots[:2]])
    first = Path("cnn_screen.jsonl").read_text()
    scores = stream([start, *shots, end], "resume=True")
    assert classes(scores) == CLASSES
    assert Path("cnn_screen.jsonl").read_text().startswith(first)
    assert status()["images"]["repeated"] == 2


def test_a_receiver_that_listens(live_run, address):
    socket = zmq.Context.instance().socket(zmq.PUSH)
    socket.connect(address)
    for parts in series():
        socket.send_multipart(parts)
    scores = live_run(address, "stream.listen=True", "idle_time=2")
    socket.close(linger=0)
    assert classes(scores) == CLASSES


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["tcp://0.0.0.0:5599", "stream.listen=True"], "is open to other machines"),
        (["tcp://*:5599", "stream.listen=True"], "is open to other machines"),
        (["nonsense://abc"], "can't be opened"),
        (["tcp://127.0.0.1:5599", "mask=a.mask"], "mask needs reference_geometry"),
        (["tcp://127.0.0.1:5599", "reference_geometry=no.expt"], "No such file"),
        (["run.h5", "reference_geometry=no.expt"], "is for streams"),
    ],
)
def test_what_is_wrong_with_a_stream(live_run, args, message):
    with pytest.raises(Sorry, match=message):
        live_run(*args)


def test_messages_that_are_far_too_large_are_not_taken():
    """ZeroMQ ends the connection before it has taken memory for them."""
    sender = zmq.Context.instance().socket(zmq.PUSH)
    port = sender.bind_to_random_port("tcp://127.0.0.1")
    receiver = open_socket(f"tcp://127.0.0.1:{port}", False, False)
    assert receiver.getsockopt(zmq.MAXMSGSIZE) == MOST_BYTES
    receiver.setsockopt(zmq.MAXMSGSIZE, 1000)
    receiver.disconnect(f"tcp://127.0.0.1:{port}")
    receiver.connect(f"tcp://127.0.0.1:{port}")
    sender.send(bytes(2000))
    assert not receiver.poll(500)
    sender.close(linger=0)
    receiver.close()


def test_what_is_too_large_is_told(stream, monkeypatch, caplog):
    monkeypatch.setattr("dials_cnn_screen.live.stream.MOST_BYTES", 20_000)
    start, first, *_ = series()
    scores = stream([start, first, [bytes(30_000)]])
    assert list(scores) == [("series_1", 1)]
    fault = "connections that ended within a series"
    assert status()["faults"][fault] == {"number": 1, "latest": ["series_1"]}
    assert "the connection to a sender ended within series_1" in caplog.text


def test_images_are_sent_as_detectors_do():
    image = np.array([[0, 5]], np.int32)
    assert fit_type(image).dtype == np.uint16
    assert fit_type(image - 1).dtype == np.int32
    assert fit_type(image + 65530).dtype == np.int32


def test_an_image_of_several_panels(stream, write_levels):
    """Without a geometry it says what is missing."""
    shot = np.stack(images([150, 150]))
    sent = [plain.encode_start(1, HEADER), plain.encode_image(1, 1, shot, "none")]
    with pytest.raises(Sorry, match="has 2 panels; give reference_geometry with their"):
        stream(sent)
