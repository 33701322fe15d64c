"""How quickly dials.cnn_live answers: a sender at a rate, and latency and losses.

    python -m dials_cnn_screen.studies.measure_live --images 10000 --rate 120

Simulated shots of one experiment (1920 x 1920 of the Rayonix, LO19) are sent again and
again from another process at a fixed rate, in the folder where the program is started.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dials_cnn_screen.live import simplon
from dials_cnn_screen.live.send import Sender, fit_type, send_at_rate
from dials_cnn_screen.live.series import Header

# Different shots, and pixels along their edge: those of the Rayonix.
_SHOTS, _EDGE = 20, 1920


def make_shots(n: int, edge: int) -> list[np.ndarray]:
    """Simulated shots of LO19, half of them hits, cut about the beam to an edge."""
    from dials_cnn_screen.simulation.run import plan_run, simulate_run

    shots = []
    for shot in simulate_run(plan_run("LO19", n, (1, 0, 1), 0), 1):
        start = (len(shot.image) - edge) // 2
        shots.append(fit_type(shot.image[start : start + edge, start : start + edge]))
    return shots


def send(address: str, images: int, rate: float, edge: int, compression: str) -> None:
    """Send a series of so many images."""
    sender = Sender(address)
    shots = make_shots(_SHOTS, edge)
    encoded = [simplon.encode_image(1, 1, shot, compression) for shot in shots]
    first = [json.loads(parts[0]) for parts in encoded]

    def messages() -> Iterator[list[bytes]]:
        header = Header((edge / 2, edge / 2), None, None, images)
        yield simplon.encode_start(1, header)
        for i in range(images):
            head, (_, *rest) = first[i % _SHOTS], encoded[i % _SHOTS]
            yield [json.dumps(head | {"frame": i}).encode(), *rest]
        yield simplon.encode_end(1)

    seconds = send_at_rate(sender, messages(), rate)
    print(f"sent {images} images in {seconds:.1f} s: {images / seconds:.1f} images/s")
    sender.close()


def main() -> None:
    """Run a sender and a receiver, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=120.0, help="images/s")
    parser.add_argument("--edge", type=int, default=_EDGE, help="pixels")
    parser.add_argument("--compression", default="none", help="none, lz4 or bslz4")
    parser.add_argument("--port", type=int, default=5533)
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help="of dials.cnn_live")
    options = parser.parse_args()
    address = f"tcp://127.0.0.1:{options.port}"
    if options.send:
        series = (options.images, options.rate, options.edge, options.compression)
        send(address, *series)
        return
    module = [sys.executable, "-m", "dials_cnn_screen.studies.measure_live"]
    sender = subprocess.Popen([*module, "--send", *sys.argv[1:]])
    # Simulating the shots takes a minute.
    arguments = [address, "idle_time=120", "output.record=live.jsonl"]
    program = "from dials_cnn_screen.command_line.cnn_live import run; run()"
    command = [sys.executable, "-c", program, *arguments, *options.arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sender.wait()
    status = json.loads(Path("cnn_live.json").read_text())
    images, latency = status["images"], status["latency"]
    print(f"received {images['done']}, unclassified {images['not_classified']}")
    print(f"missing {status['faults']['missing images']['number']}")
    print(
        f"latency of the last 500: median {latency['median']} s, 99% {latency['p99']} s"
    )


if __name__ == "__main__":
    main()
