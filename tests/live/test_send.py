"""dials.cnn_simulate as a sender, and dials.cnn_live as its receiver."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("dials")
pytest.importorskip("zmq", reason="no pyzmq")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_live import run as screen
from dials_cnn_screen.command_line.cnn_screen import run as screen_file
from dials_cnn_screen.command_line.cnn_simulate import run as simulate
from dials_cnn_screen.live.send import Sender
from dials_cnn_screen.screening.results import read_results

pytestmark = pytest.mark.usefixtures("in_tmp_path")

ONE = "mp.nproc=1"


def test_simulated_shots_through_a_stream(in_tmp_path, installed_formats):
    address = f"ipc://{in_tmp_path}/shots"
    args = ["n_images=3", "output.images=shots.h5", "fractions=1,0,1", "rate=50", ONE]
    args.append(f"output.stream={address}")
    thread = threading.Thread(target=simulate, args=(args,))
    thread.start()
    _wait_for(thread)
    screen([address, "idle_time=5", "output.html=None", ONE, "stream.when_full=wait"])
    thread.join()
    live = read_results("cnn_screen.json").images
    labels = [line.split() for line in Path("labels.txt").read_text().splitlines()]
    assert [f"{path} {n}" for path, n, _ in labels] == [str(i.name) for i in live]
    log = Path("dials.cnn_simulate.log").read_text()
    assert f"Sending 3 shots at {address}: " in log
    screen_file(["shots.h5", "output.html=None", ONE])
    expected = read_results("cnn_screen.json").images
    assert [i.label for i in live] == [i.label for i in expected]
    assert [i.p_keep for i in live] == pytest.approx([i.p_keep for i in expected], 1e-3)


def test_without_a_file(in_tmp_path):
    address = f"ipc://{in_tmp_path}/shots"
    args = ["n_images=1", "fractions=0,0,1", f"output.stream={address}", ONE]
    thread = threading.Thread(target=simulate, args=(args,))
    thread.start()
    _wait_for(thread)
    screen([address, "idle_time=5", "output.html=None", ONE])
    thread.join()
    assert len(read_results("cnn_screen.json").images) == 1
    assert not list(Path().glob("*.h5"))


def _wait_for(sender: threading.Thread) -> None:
    """Wait until the shots are simulated: their labels are written before they go."""
    while sender.is_alive() and not Path("labels.txt").exists():
        time.sleep(0.1)


def test_an_address_that_is_taken(in_tmp_path):
    address = f"tcp://127.0.0.1:{_free_port()}"
    first = Sender(address)
    with pytest.raises(Sorry, match="can't be opened: Address already in use"):
        simulate(["n_images=1", f"output.stream={address}", ONE])
    first.close()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
