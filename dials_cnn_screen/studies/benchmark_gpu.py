"""What the kernels reach on a GPU, beside what its memory and bus allow.

Run as ``python -m dials_cnn_screen.studies.benchmark_gpu [OUT.json]`` on a machine with
torch for CUDA and its Triton. DIALS is not needed; without safetensors the networks
have untrained weights, which take as long; without numba, lz4 and dectris-compression
there are no raw frames. It takes some five minutes.
For each model and type of pixels:

- answers beside the reference's on a few frames,
- frames/s on the device by batch size, without copies,
- microseconds a frame of each stage,
- frames/s from pinned memory, as in screening/gpu.py but with frames that are there,
- frames/s of GpuStream, which copies each frame to pinned memory first; the same of raw
  frames, compressed by bitshuffle and LZ4 or not, and the time of each stage that makes
  frames of them,
- the time of one frame from the host's memory to its probabilities.

Times are medians; the spread is the range of the middle half.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dials_cnn_screen.architecture import BatchPipeline
from dials_cnn_screen.images.batch import Layout, raw_layout
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.images.raw_frame import Encoding, RawFrame
from dials_cnn_screen.ke2018.preprocessing import prepare
from dials_cnn_screen.labels.probabilities import softmax
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.screening.gpu import BATCH, BUFFERS, GpuStream
from dials_cnn_screen.screening.gpu_batch import RawRoom, Streams, capture
from dials_cnn_screen.spots.candidates import find_candidates
from dials_cnn_screen.spots.network import batch_of_one
from dials_cnn_screen.util.devices import use_card

BATCHES = (1, 16, 64, 256)
ROUNDS, WARM_UP = 20, 3
DTYPES = ("uint16", "int32", "float32")
MODELS = ("default", "ke2018")
SHAPE = (1920, 1920)
# Raw frames, and the bytes of their blocks; what they need.
RAW = {"raw": 0, "bslz4": 8192}
FOR_RAW = ("lz4", "dectris", "numba")


def simulated_frames(n: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """n frames of a smooth background with spots, int32 (n, slow, fast)."""
    rng = np.random.default_rng(0)
    y, x = np.indices(shape)
    radius = np.hypot(y - shape[0] / 2, x - shape[1] / 2)  # (slow, fast), pixels
    level = 20 + 60 * np.exp(-(((radius - shape[0] / 5) / (shape[0] / 16)) ** 2))
    frames = rng.poisson(level, (n, *shape)).astype(np.int32)
    for frame in frames:
        for i, j in rng.integers(4, np.subtract(shape, 4), (120, 2)):
            frame[i : i + 2, j : j + 2] += rng.integers(20, 400)
    return frames


def mask_of(shape: tuple[int, ...]) -> np.ndarray:
    """A beam stop in the middle, and gaps between tiles: bool (slow, fast)."""
    mask = np.ones(shape, bool)
    slow, fast = (n // 2 for n in shape)
    mask[slow - 55 : slow + 55, fast - 55 : fast + 55] = False
    mask[:, fast + 200 : fast + 210] = False
    mask[slow - 300 : slow - 290] = False
    return mask


def milliseconds(work: Callable[[], object]) -> dict[str, float]:
    """Time of work on the GPU, by its own clock."""
    for _ in range(WARM_UP):
        work()
    torch.cuda.synchronize()
    pairs = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in pairs]
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median_ms": float(median), "spread_ms": float(high - low)}


def bandwidth(device: str) -> dict[str, float]:
    """GB/s within the device (read and written), and to it from pinned memory."""
    size = 2**28
    here = torch.zeros(4 * size, dtype=torch.uint8, device=device)
    there = torch.empty_like(here)
    host = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
    within = milliseconds(lambda: there.copy_(here))
    to = milliseconds(lambda: there[:size].copy_(host, non_blocking=True))
    return {
        "device_GBps": 8 * size / within["median_ms"] / 1e6,
        "host_to_device_GBps": size / to["median_ms"] / 1e6,
    }


def replayed(work: Callable[[], Any]) -> Callable[[], None]:
    """Work as a CUDA graph."""
    with torch.cuda.stream(torch.cuda.Stream()):
        replay, _ = capture(work)
    return replay


def measure(
    model: Model, dtype: str, frames: np.ndarray, device: str
) -> dict[str, Any]:
    """All measurements of a model with one type of pixels.

    Args:
        frames: int32 (n, slow, fast).
    """
    mask = mask_of(frames.shape[1:])
    centre = (mask.shape[0] / 2, mask.shape[1] / 2)
    layout = Layout(mask, centre, np.dtype(dtype))
    some = [Frame(frame.astype(dtype), mask, centre) for frame in frames]

    def batches(n: int) -> BatchPipeline:
        return model.entry.batches(model.network, model.preparation, layout, n, device)

    def on_device(n: int) -> torch.Tensor:
        host = np.zeros((n, *layout.padded), layout.dtype)
        for i, place in enumerate(host):
            layout.store(some[i % len(some)], place)
        return torch.from_numpy(host).to(device)

    start = time.perf_counter()
    batches(2).run(on_device(2))
    torch.cuda.synchronize()
    result: dict[str, Any] = {"first_run_s": time.perf_counter() - start}
    result["frame_bytes"] = int(np.prod(layout.padded)) * layout.dtype.itemsize
    result["difference_of_p"] = compare(model, batches(4), on_device(4), some)
    result["device"] = {}
    for n in BATCHES:
        pipeline, pixels = batches(n), on_device(n)
        times = milliseconds(replayed(functools.partial(pipeline.run, pixels)))
        row: dict[str, Any] = {**times, "frames_per_s": 1e3 * n / times["median_ms"]}
        if n == 64:
            row["stages_us_per_frame"] = {
                name: 1e3 * milliseconds(replayed(stage))["median_ms"] / n
                for name, stage in pipeline.stages(pixels)
            }
        result["device"][n] = row
        del pipeline, pixels
        torch.cuda.empty_cache()
    result["from_pinned_memory"] = streamed(batches(BATCH), layout, device)
    result["latency_ms"] = latency(batches(1), on_device(1).cpu())
    result["gpu_stream"] = whole_stream(model, some, device)
    if dtype == "uint16" and all(map(importlib.util.find_spec, FOR_RAW)):
        for name, block in RAW.items():
            raw = raw_frames(some, block)
            result.setdefault("raw", {})[name] = stream_of_raw(model, raw, device)
    return result


def compare(
    model: Model, pipeline: BatchPipeline, pixels: torch.Tensor, frames: list[Frame]
) -> float | None:
    """The largest difference of a probability from the reference's; None: none fitted.

    Args:
        pixels: The first of the frames, on the device.
    """
    arrays = [tensor.cpu().numpy() for tensor in pipeline.run(pixels)]
    temperature = model.calibration.temperature
    differences = []
    for i, frame in enumerate(frames[: len(pixels)]):
        output = pipeline.output(arrays, i)
        if output is not None:
            wanted = softmax(reference_logits(model, frame), temperature)
            found = softmax(output.logits, temperature)
            differences.append(float(np.abs(found - wanted).max()))
    return max(differences, default=None)


def reference_logits(model: Model, frame: Frame) -> np.ndarray:
    """The logits of a frame by the code in numpy."""
    network = model.network.eval()
    preparation: Any = model.preparation
    arguments = (frame.data, frame.mask, frame.beam_centre, preparation)
    with torch.inference_mode():
        if model.architecture == "spots":
            logits = network(batch_of_one(find_candidates(*arguments))).logits
        else:
            logits = network(torch.from_numpy(prepare(*arguments))[None, None])
    return logits[0].numpy()


def read_model(name: str) -> Model:
    """A model of the package, or one of its architecture with untrained weights."""
    if importlib.util.find_spec("safetensors"):
        return load_model(name)
    architecture = {"default": "spots"}.get(name, name)
    entry = find_architecture(architecture)
    return Model(
        name, entry.network(), architecture, entry.preparation(), Calibration(), "", {}
    )


def streamed(
    pipeline: BatchPipeline, layout: Layout, device: str, rounds: int = 96
) -> dict[str, float]:
    """Frames/s from pinned memory that is full already: copy and compute overlap."""
    dtype = getattr(torch, layout.dtype.name)
    shape = (BATCH, *layout.padded)
    host = torch.ones(shape, dtype=dtype, pin_memory=True)
    buffers = [torch.ones(shape, dtype=dtype, device=device) for _ in range(BUFFERS)]
    works = [replayed(functools.partial(pipeline.run, x)) for x in buffers]
    streams = Streams(device)
    there, done = ([torch.cuda.Event() for _ in buffers] for _ in range(2))

    def go(n: int) -> None:
        for i in range(n):
            k = i % BUFFERS
            with streams.copying():
                if i >= BUFFERS:
                    done[k].wait()
                buffers[k].copy_(host, non_blocking=True)
                there[k].record()
            with streams.computing():
                there[k].wait()
                works[k]()
                done[k].record()
        torch.cuda.synchronize()

    go(2 * BUFFERS)
    start = time.perf_counter()
    go(rounds)
    rate = rounds * BATCH / (time.perf_counter() - start)
    frame_bytes = host[0].numel() * host.element_size()
    return {"frames_per_s": rate, "GBps": rate * frame_bytes / 1e9}


def latency(pipeline: BatchPipeline, pixels: torch.Tensor) -> float:
    """Median time of one frame from pinned memory to its logits on the host, ms."""
    host = pixels.pin_memory()
    buffer = host.cuda()
    with torch.cuda.stream(torch.cuda.Stream()):
        replay, tensors = capture(lambda: pipeline.run(buffer))
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        buffer.copy_(host, non_blocking=True)
        replay()
        for tensor in tensors:
            tensor.cpu()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def raw_frames(frames: list[Frame], block_bytes: int) -> list[RawFrame]:
    """The same frames of uint16 as a file has them; block_bytes: as in Encoding."""
    from dials_cnn_screen.images.compression import compress

    mask, dtype = frames[0].mask, np.dtype(np.uint16)
    encoding = Encoding(dtype, block_bytes, mask, 0, 65535, None)
    how = encoding.compression, block_bytes
    return [RawFrame(compress(f.data, *how), encoding, f.beam_centre) for f in frames]


def stream_of_raw(model: Model, frames: list[RawFrame], device: str) -> dict[str, Any]:
    """Frames/s of GpuStream on raw frames, and what making frames of them takes."""
    room = RawRoom(raw_layout(frames), 64, device)
    for i in range(64):
        room.add(frames[i % len(frames)])
    room.copy()
    stages = {
        name: 1e3 * milliseconds(replayed(stage))["median_ms"] / 64
        for name, stage in room.stages()
    }
    del room
    torch.cuda.empty_cache()
    size = sum(len(frame.data) for frame in frames) / len(frames)
    stream = whole_stream(model, frames, device)
    return {"frame_bytes": size, "stages_us_per_frame": stages, **stream}


def whole_stream(
    model: Model,
    frames: Sequence[Frame | RawFrame],
    device: str,
    n: int = 512,
) -> dict[str, float]:
    """Frames/s of GpuStream.classify on frames in ordinary memory, one thread."""
    stream = GpuStream(model, device=device)

    def repeated(n: int) -> Iterator[Frame | RawFrame]:
        for i in range(n):
            yield frames[i % len(frames)]

    list(stream.classify(repeated(3 * BATCH)))
    start = time.perf_counter()
    left = sum(done.left_to_cpu for done in stream.classify(repeated(n)))
    seconds = time.perf_counter() - start
    return {"frames_per_s": n / seconds, "left_to_cpu": left}


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    limits = results["bandwidth"]
    lines = [
        f"{results['card']}, torch {results['torch']}, Triton {results['triton']}",
        "  ".join(f"{name} {value:.0f}" for name, value in limits.items()),
        "",
        f"{'':18}{'batch':>7}{'frames/s':>11}{'bytes allow':>13}",
    ]
    for title, result in results["models"].items():
        size = result["frame_bytes"]
        within = limits["device_GBps"] * 1e9 / size
        bus = limits["host_to_device_GBps"] * 1e9 / size
        for n, row in result["device"].items():
            lines.append(f"{title:18}{n:>7}{row['frames_per_s']:>11.0f}{within:>13.0f}")
            for stage, time_us in row.get("stages_us_per_frame", {}).items():
                lines.append(f"{'':18}  {stage:14}{time_us:8.2f} us a frame")
        pinned, whole = result["from_pinned_memory"], result["gpu_stream"]
        lines.append(f"{'':18} pinned{pinned['frames_per_s']:>11.0f}{bus:>13.0f}")
        lines.append(f"{'':18} stream{whole['frames_per_s']:>11.0f}{bus:>13.0f}")
        for name, raw in result.get("raw", {}).items():
            bus = limits["host_to_device_GBps"] * 1e9 / raw["frame_bytes"]
            lines.append(f"{'':18}{name:>7}{raw['frames_per_s']:>11.0f}{bus:>13.0f}")
            for stage, time_us in raw["stages_us_per_frame"].items():
                lines.append(f"{'':18}  {stage:14}{time_us:8.2f} us a frame")
        lines.append(
            f"{'':18}one frame {result['latency_ms']:.2f} ms, first run "
            f"{result['first_run_s']:.1f} s, P within {result['difference_of_p']}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table and write all numbers as JSON."""
    import triton

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", default="benchmark_gpu.json")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU")
    device = use_card()
    results: dict[str, Any] = {
        "card": torch.cuda.get_device_name(device),
        "host": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "shape": SHAPE,
        "bandwidth": bandwidth(device),
        "models": {},
    }
    frames = simulated_frames(8)
    for name in arguments.models:
        for dtype in arguments.dtypes:
            measured = measure(read_model(name), dtype, frames, device)
            results["models"][f"{name} {dtype}"] = measured
            # After each, so that a run that is stopped leaves what it has.
            arguments.output.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
