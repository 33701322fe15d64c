"""Compile the Triton kernels for sm_90, without a GPU, and print what came out.

Run as a program, since Triton decides once in a process whether it interprets kernels.
Each kernel is started as in use, and compiled in place of being run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Hopper:
    """A driver for a GPU that is not there."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


def compile_instead() -> dict:
    """From now on kernels are compiled, not run; what came out, by name."""
    driver.set_active(Hopper())
    run = JITFunction.run
    compiled = {}

    def compile_only(self, *arguments, grid, warmup, **options):
        start = time.perf_counter()
        kernel = run(self, *arguments, grid=grid, warmup=True, **options)
        seconds = time.perf_counter() - start
        entry = compiled.setdefault(self.__name__, {"seconds": 0.0, "kernels": {}})
        entry["seconds"] += seconds
        entry["kernels"][kernel.hash] = kernel
        return kernel

    JITFunction.run = compile_only
    return compiled


def resources(kernel) -> dict[str, int]:
    """Registers, stack (bytes; spilled registers), instructions; values of a loop."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])

        def say(*command: str) -> str:
            done = subprocess.run(
                [TOOLS / command[0], *command[1:], file.name],
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout

        usage = say("cuobjdump", "--dump-resource-usage")
        code = say("nvdisasm", "-c")
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    instructions = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/", code, re.MULTILINE)
    return {
        "warps": kernel.metadata.num_warps,
        "registers": int(registers),
        "stack": int(stack),
        "instructions": len(instructions),
        "carried": max(
            map(int, re.findall(r":(\d+) = scf.(?:for|while)", kernel.asm["ttir"])),
            default=1,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("default", "ke2018", "raw"))
    parser.add_argument("dtype", choices=("uint8", "uint16", "int32", "float32"))
    parser.add_argument("--trusted", action="store_true")
    parser.add_argument("--shapes", nargs="+", default=["1920x1920"])
    arguments = parser.parse_args()
    compiled = compile_instead()
    for batch, shape in enumerate(arguments.shapes, start=1):
        work = run_raw if arguments.what == "raw" else run_batch
        work(arguments, tuple(map(int, shape.split("x"))), batch)
    found = {
        name: {
            "seconds": round(entry["seconds"], 2),
            "kernels": [resources(k) for k in entry["kernels"].values()],
        }
        for name, entry in compiled.items()
    }
    print(json.dumps(found))


def run_batch(
    arguments: argparse.Namespace, shape: tuple[int, int], batch: int
) -> None:
    """A batch of frames through all kernels of a model."""
    from dials_cnn_screen.images.batch import Layout
    from dials_cnn_screen.models.model_file import load_model

    mask = np.ones(shape, bool)
    centre = tuple(n / 2 for n in shape)
    hole = tuple(slice(n // 3, n // 2) for n in shape)
    mask[hole] = False
    trusted = (-5.0, 60000.0) if arguments.trusted else None
    layout = Layout(mask, centre, np.dtype(arguments.dtype), trusted)
    model = load_model(arguments.what)
    pipeline = model.entry.batches(
        model.network, model.preparation, layout, batch, "cpu"
    )
    dtype = getattr(torch, arguments.dtype)
    pipeline.run(torch.zeros(batch, *layout.padded, dtype=dtype))


def run_raw(arguments: argparse.Namespace, shape: tuple[int, int], batch: int) -> None:
    """A batch of raw frames through the kernels that make frames of them."""
    from dials_cnn_screen.images.batch import Layout
    from dials_cnn_screen.images.raw_frame import Encoding
    from dials_cnn_screen.images.raw_frame_cuda import RawFrameKernels

    mask = np.ones(shape, bool)
    dtype = np.dtype(arguments.dtype)
    top = 2**31 if dtype == np.int32 else None
    encoding = Encoding(dtype, 8192, mask, 0, 60000, top)
    layout = Layout(mask, (1.0, 1.0), np.dtype(np.int32), (0.0, 1.0), encoding)
    places = torch.zeros(batch, encoding.n_blocks + 1, 2, dtype=torch.int32)
    packed = torch.zeros(batch * encoding.n_bytes, dtype=torch.uint8)
    for _, stage in RawFrameKernels(layout, batch, "cpu").stages(packed, places):
        stage()


if __name__ == "__main__":
    main()
