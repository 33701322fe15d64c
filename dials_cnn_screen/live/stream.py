"""Images of a ZeroMQ stream."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dials_cnn_screen.images.frame import MAX_IMAGE_PIXELS, Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.live import plain, simplon, stream2
from dials_cnn_screen.live.arrivals import Unread
from dials_cnn_screen.live.geometry import Reference, make_stream_frame
from dials_cnn_screen.live.order import Fault, SeriesOrder, describe_fault
from dials_cnn_screen.live.series import (
    BrokenMessageError,
    Header,
    Image,
    Message,
    Part,
    Start,
)

if TYPE_CHECKING:
    import zmq

logger = logging.getLogger("dials.cnn_live")

# Bytes of a part of a message: the largest image there may be, and some more.
MOST_BYTES = 4 * MAX_IMAGE_PIXELS + 2**20
# Parts of a message that are looked at; messages on the wire before they are taken;
# series that are remembered; all by hand.
MOST_PARTS, _WIRE, _SERIES = 12, 16, 1000
_FAULTS = (
    "repeated images",
    "late images",
    "broken messages",
    "connections that ended within a series",
)
# Milliseconds to wait for a message before looking whether to end. By hand.
_POLL = 100
_LOOPBACK = re.compile(
    r"tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):\d+|(ipc|inproc)://.+"
)


def is_stream(source: str) -> bool:
    """Whether a source is an address of ZeroMQ."""
    return "://" in source


def open_socket(address: str, listen: bool, allow_remote: bool) -> zmq.Socket:
    """A socket that receives messages.

    Args:
        address: Such as tcp://127.0.0.1:9999.
        listen: Wait for senders there; else connect to a sender.
        allow_remote: Listen for senders on other machines too.

    Raises:
        ValueError: pyzmq is not installed, or there can be no socket.
    """
    try:
        import zmq
    except ImportError:
        raise ValueError(
            "a stream needs the package pyzmq: pip install pyzmq, or apt-get install "
            "python3-zmq"
        ) from None
    if listen and not allow_remote and not _LOOPBACK.fullmatch(address):
        raise ValueError(
            f"{address} is open to other machines; give stream.allow_remote=True if "
            "that is meant, or tcp://127.0.0.1 and the port"
        )
    socket: zmq.Socket = zmq.Context.instance().socket(zmq.PULL)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, _WIRE)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
    try:
        (socket.bind if listen else socket.connect)(address)
    except zmq.ZMQError as error:
        socket.close()
        raise ValueError(f"{address} can't be opened: {error}") from None
    return socket


def decode(parts: Sequence[Part]) -> Message:
    """The message of these parts, of whichever kind.

    Raises:
        BrokenMessageError: It is none.
        ValueError: What decodes it is not installed.
    """
    if stream2.is_map(parts[0]):
        return stream2.decode(parts[0])
    first = simplon.read_json(parts[0])
    module = simplon if "htype" in first else plain
    return module.decode(first, parts)


@dataclass(frozen=True, eq=False)
class StreamImage:
    """An image of a stream, compressed as it came.

    Attributes:
        name: Of its series, and its number.
        image: The message.
        header: Of the series as far as it was known when the image came.
    """

    name: ImageName
    image: Image
    header: Header


class StreamSource:
    """The images of a stream as they come.

    Attributes:
        waits: Images that nobody takes are lost.
    """

    waits = False

    def __init__(
        self, socket: zmq.Socket, idle_time: float | None, reference: Reference | None
    ) -> None:
        """Nothing is received yet.

        Args:
            socket: Of open_socket.
            idle_time: Seconds without a message after which images ends; None: never.
            reference: Geometry that the user gives; None: that of the stream.
        """
        import zmq

        self._socket, self._idle_time = socket, idle_time
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._reference = reference
        self._headers: dict[str, Header] = {}
        self._orders: dict[str, SeriesOrder] = {}
        self._faults = {name: Fault() for name in _FAULTS}
        # Series that ended, and how often one of the same name began after that.
        self._ended: set[str] = set()
        self._again: Counter[str] = Counter()
        # Missing images of series that are not remembered any more.
        self._n_forgotten = 0
        self._n_messages = 0
        self._lock = threading.Lock()

    def images(self, stop: threading.Event) -> Iterator[StreamImage | Unread]:
        """The images as they come, until nothing came for idle_time or stop is set.

        Raises:
            ValueError: A package is missing.
        """
        last = time.monotonic()
        try:
            while not stop.is_set():
                parts = self._receive()
                if parts is None:
                    self._count_ended_connections()
                    idle = time.monotonic() - last
                    if self._idle_time is not None and idle > self._idle_time:
                        return
                    continue
                last = time.monotonic()
                image = self._take(parts)
                if image is not None:
                    yield image
        finally:
            self._socket.disable_monitor()
            self._socket.close()

    def read(self, image: StreamImage) -> Frame:
        """The frame of an image; ValueError where it can't be made."""
        return make_stream_frame(image.image.read(), image.header, self._reference)

    def postpone(self, image: StreamImage) -> bool:
        """What came broken stays so."""
        return False

    def size(self, image: StreamImage) -> int:
        """That of the message."""
        return image.image.n_bytes

    def faults(self) -> dict[str, Any]:
        """Repeated, late, broken and missing images and messages, and connections."""
        with self._lock:
            found = {name: fault.as_json() for name, fault in self._faults.items()}
            number = self._n_forgotten
            latest = []
            for series, order in self._orders.items():
                if n := order.missing():
                    number += n
                    latest.append(f"{series} {', '.join(order.missing_names())}")
        found["missing images"] = describe_fault(number, latest)
        return found

    def _receive(self) -> list[memoryview] | None:
        """The parts of the next message; None where none came for a while."""
        import zmq

        if not self._socket.poll(_POLL):
            return None
        parts: list[memoryview] = []
        while True:
            with contextlib.suppress(zmq.Again):
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                if len(parts) < MOST_PARTS:
                    parts.append(frame.buffer)
            if not self._socket.getsockopt(zmq.RCVMORE):
                return parts or None

    def _count_ended_connections(self) -> None:
        """Those of senders that were within a series; no message is waiting."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            with self._lock:
                series = [name for name in self._orders if name not in self._ended]
                if not series:
                    continue
                self._faults["connections that ended within a series"].add(series[-1])
            logger.warning(
                "the connection to a sender ended within %s; a part of a message over "
                "%d MB is one cause",
                series[-1],
                MOST_BYTES // 10**6,
            )

    def _take(self, parts: list[memoryview]) -> StreamImage | Unread | None:
        """The image of a message; None for one that has none to classify."""
        with self._lock:
            self._n_messages += 1
            try:
                message = decode(parts)
            except BrokenMessageError as error:
                what = f"message {self._n_messages} ({error})"
                self._faults["broken messages"].add(what)
                logger.warning("broken %s", what)
                return None
            if isinstance(message, Start):
                self._start(message.series, message.header)
                return None
            if isinstance(message, Image):
                return self._order(message)
            order = self._orders.get(message.series)
            if order is not None:
                order.end(self._headers[message.series].n_images)
                self._ended.add(message.series)
            return None

    def _start(self, series: str, header: Header) -> None:
        """A series begins; one of the same name that did not end goes on."""
        if series in self._ended:  # numbers of series begin anew with a detector
            self._ended.remove(series)
            self._again[series] += 1
            self._forget(series)
        if series not in self._orders:
            self._remember(series, SeriesOrder(1))
        self._headers[series] = header
        if header.beam_centre == (0.0, 0.0) and self._reference is None:
            logger.warning(
                "the beam centre of %s is (0, 0), the corner; give reference_geometry "
                "if it is not there",
                series,
            )

    def _order(self, image: Image) -> StreamImage | Unread | None:
        """The image, or None if it came before."""
        order = self._orders.get(image.series)
        if order is None:  # its start was sent before this program connected
            order = SeriesOrder(image.number)
            self._remember(image.series, order)
            self._headers[image.series] = Header()
        n, header = self._again[image.series], self._headers[image.series]
        name = ImageName(f"{image.series}.{n + 1}" if n else image.series, image.number)
        if header.n_images is not None and image.number > header.n_images:
            return Unread(name, f"its series has {header.n_images} images")
        came = order.add(image.number)
        if came == "repeated":
            self._faults["repeated images"].add(str(name))
            return None
        if came == "late":
            self._faults["late images"].add(str(name))
        return StreamImage(name, image, image.header or header)

    def _remember(self, series: str, order: SeriesOrder) -> None:
        self._orders[series] = order
        if len(self._orders) > _SERIES:
            self._forget(next(iter(self._orders)))

    def _forget(self, series: str) -> None:
        self._n_forgotten += self._orders.pop(series).missing()
        del self._headers[series]
