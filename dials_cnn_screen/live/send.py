"""A sender of streams, for tests, demonstrations and measurements."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.live import plain, simplon, stream2
from dials_cnn_screen.live.series import Header

if TYPE_CHECKING:
    import zmq

FORMATS = {"plain": plain, "simplon": simplon, "stream2": stream2}
# Seconds that a sender waits, at its end, for messages to be taken. By hand.
_LINGER = 600.0
# Messages on the wire before they are taken. By hand.
_WIRE = 16


class Sender:
    """Sends series of images to whoever connects."""

    def __init__(self, address: str) -> None:
        """Wait for receivers at an address, such as tcp://127.0.0.1:9999.

        Raises:
            ValueError: pyzmq is not installed, or the address can't be had.
        """
        try:
            import zmq
        except ImportError:
            raise ValueError("a stream needs the package pyzmq") from None
        self._socket: zmq.Socket = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, _WIRE)
        self._socket.setsockopt(zmq.LINGER, int(1e3 * _LINGER))
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ValueError(f"{address} can't be opened: {error}") from None

    def send(self, parts: Sequence[bytes]) -> None:
        """Send a message; waits where nobody takes it.

        As copies: pyzmq starts a thread to send what it has not copied, and a process
        with threads is not forked.
        """
        self._socket.send_multipart(parts)

    def close(self) -> None:
        """No more is sent."""
        self._socket.close()


def encode_series(
    name: str,
    series: int,
    header: Header,
    images: Iterable[NDArray],
    compression: str,
) -> Iterator[list[bytes]]:
    """The messages of a series.

    Args:
        name: In FORMATS.
        series: Its number.
        header: Its header.
        images: (slow, fast) each, of a type in DTYPES.
        compression: none, lz4 or bslz4.
    """
    module = FORMATS[name]
    yield module.encode_start(series, header)
    for number, pixels in enumerate(images, start=1):
        yield module.encode_image(series, number, pixels, compression)
    yield module.encode_end(series)


def send_at_rate(
    sender: Sender, messages: Iterable[Sequence[bytes]], rate: float | None
) -> float:
    """Send messages, so many a second at most; as fast as they are taken without.

    Returns:
        Seconds that it took.
    """
    start = time.monotonic()
    for i, parts in enumerate(messages):
        if rate:
            time.sleep(max(0.0, start + i / rate - time.monotonic()))
        sender.send(parts)
    return time.monotonic() - start


class ImageSender:
    """Sends simulated images as one series, when all are there.

    Attributes:
        series: Its name, by which receivers know the images.
    """

    series = "series_1"

    def __init__(
        self,
        address: str,
        n_images: int,
        beam_centre: tuple[float, float],
        trusted_range: tuple[float, float],
    ) -> None:
        """Wait for receivers at an address.

        Args:
            address: Of Sender.
            n_images: How many images there will be.
            beam_centre: Of all images, (slow, fast), pixels.
            trusted_range: Of all images, ADU.

        Raises:
            ValueError: As Sender does.
        """
        self._sender = Sender(address)
        (slow, fast), (low, high) = beam_centre, trusted_range
        trusted = float(low), float(high)
        header = Header((float(slow), float(fast)), trusted, None, n_images)
        self._messages = [plain.encode_start(1, header)]

    def add(self, image: NDArray[np.int32]) -> None:
        """One image more, (slow, fast)."""
        number = len(self._messages)
        self._messages.append(plain.encode_image(1, number, fit_type(image), "none"))

    def send(self, rate: float | None) -> float:
        """Send the series; rate and what is returned are those of send_at_rate."""
        seconds = send_at_rate(
            self._sender, [*self._messages, plain.encode_end(1)], rate
        )
        self._sender.close()
        return seconds


def fit_type(image: NDArray[np.int32]) -> NDArray:
    """A simulated image as uint16 where its values allow it, as most detectors send."""
    fits = image.min() >= 0 and image.max() < 2**16 - 2
    return image.astype(np.uint16) if fits else image
