"""Steps on sixteen pixels at a time, for the kernels of this folder.

Sixteen float32 are one register of AVX-512, two of AVX2. LLVM does not vectorise these
steps by itself: it cannot know that arrays do not overlap, and for so few pixels does
not look; and that there is no NaN. They make finding candidates about 1.5 times faster.
Left to reorder sums, it takes another order where a function is compiled with its
caller than by itself: the run that compiles had other last digits than those after it.

All arrays are contiguous; nothing checks that sixteen elements are there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FLOATS = ir.VectorType(ir.FloatType(), 16)


@intrinsic
def copy_sixteen(typing, source, i, target, k):
    """target[k : k + 16] = source[i : i + 16]: float32."""

    def generate(context, builder, signature, arguments):
        source, target = _arrays(context, builder, signature, arguments, (0, 2))
        values = _load(builder, source, arguments[1], ir.FloatType())
        _store(builder, values, target, arguments[3])
        return context.get_dummy_value()

    return types.void(source, i, target, k), generate


@intrinsic
def least_of_256(typing, block):
    """The least of 256 float32, none of them NaN."""

    def generate(context, builder, signature, arguments):
        (source,) = _arrays(context, builder, signature, arguments, (0,))
        index = ir.IntType(64)
        values = [
            _load(builder, source, index(16 * k), ir.FloatType()) for k in range(16)
        ]
        while len(values) > 1:
            values = [
                builder.select(builder.fcmp_ordered("<", a, b), a, b)
                for a, b in zip(values[::2], values[1::2], strict=True)
            ]
        reduce = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), [_FLOATS]),
            "llvm.vector.reduce.fmin.v16f32",
        )
        return builder.call(reduce, values)

    return types.float32(block), generate


@intrinsic
def sums_of_256(typing, block, least, limit):
    """Number, sum and sum of squares of 256 values - least, up to a limit: float32.

    Args:
        block: float32 (256,), infinity where there is none.
        least, limit: float32.
    """

    def add(builder, sums, values, least, limit):
        number, total, square = sums
        over = builder.fsub(values, least)
        inside = builder.fcmp_ordered("<=", over, limit)
        over = builder.select(inside, over, _all(0.0))
        return [
            builder.fadd(number, builder.select(inside, _all(1.0), _all(0.0))),
            builder.fadd(total, over),
            _multiply_add(builder, over, over, square),
        ]

    signature = types.UniTuple(types.float32, 3)(block, least, limit)
    return signature, functools.partial(_sums, add)


@intrinsic
def tails_of_256(typing, block, centre, limit):
    """Sums of squares and cubes of 256 values - centre, cut at a limit: float32.

    Args:
        block: float32 (256,), infinity where there is none.
        centre, limit: float32.
    """

    def add(builder, sums, values, centre, limit):
        square, cube = sums
        over = builder.fsub(values, centre)
        over = builder.select(builder.fcmp_ordered(">", over, limit), limit, over)
        used = builder.fcmp_ordered("<", values, _all(float("inf")))
        over = builder.select(used, over, _all(0.0))
        squared = builder.fmul(over, over)
        return [
            builder.fadd(square, squared),
            _multiply_add(builder, squared, over, cube),
        ]

    signature = types.UniTuple(types.float32, 2)(block, centre, limit)
    return signature, functools.partial(_sums, add)


@intrinsic
def normalise_sixteen(typing, row, used, x, mean, inverse, z, k):
    """z[k : k + 16] of row[x : x + 16], on a line between the centres of two blocks.

    (row - mean) * inverse, 0 where not used; as the loop of normalise_cpu._pixels_of_z
    to the last digit.

    Args:
        row: Numbers of any type.
        used: bool.
        x: Of the first pixel, whose centre is 1/32 of the way.
        mean, inverse: Two float32 each, at the one centre and the other.
        z: float32, written.
        k: Element of z for the first pixel.
    """
    parts = ir.Constant(_FLOATS, [(k + 0.5) / 16 for k in range(16)])

    def generate(context, builder, signature, arguments):
        _, _, x, mean, inverse, _, k = arguments
        row, used, z = _arrays(context, builder, signature, arguments, (0, 1, 5))
        here = _as_float32(builder, row, x, signature.args[0].dtype)
        mask = _load(builder, used, x, ir.IntType(8))
        mask = builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, None))

        def between(ends: ir.Value) -> ir.Value:
            low, high = (builder.extract_value(ends, side) for side in range(2))
            low, step = (_splat(builder, v) for v in (low, builder.fsub(high, low)))
            return builder.fadd(low, builder.fmul(step, parts))

        values = builder.fmul(builder.fsub(here, between(mean)), between(inverse))
        zero = ir.Constant(_FLOATS, None)
        _store(builder, builder.select(mask, values, zero), z, k)
        return context.get_dummy_value()

    return types.void(row, used, x, mean, inverse, z, k), generate


def _arrays(
    context: Any, builder: Any, signature: Any, arguments: Any, which: tuple[int, ...]
) -> list[ir.Value]:
    """Pointers to the elements of those arguments that are arrays."""
    return [
        context.make_array(signature.args[n])(context, builder, arguments[n]).data
        for n in which
    ]


def _load(builder: Any, data: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    """Sixteen elements of this type from an index on."""
    start = builder.bitcast(
        builder.gep(data, [index]), ir.VectorType(kind, 16).as_pointer()
    )
    return builder.load(start, align=1)


def _store(builder: Any, values: ir.Value, data: ir.Value, index: ir.Value) -> None:
    """Write sixteen float32 from an index on."""
    start = builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())
    builder.store(values, start, align=4)


def _as_float32(builder: Any, data: ir.Value, index: ir.Value, kind: Any) -> ir.Value:
    """Sixteen numbers of any type, from an index on."""
    if kind == types.float32:
        return _load(builder, data, index, ir.FloatType())
    if kind == types.float64:
        return builder.fptrunc(_load(builder, data, index, ir.DoubleType()), _FLOATS)
    values = _load(builder, data, index, ir.IntType(kind.bitwidth))
    return (builder.sitofp if kind.signed else builder.uitofp)(values, _FLOATS)


def _sums(
    add: Callable[..., list[ir.Value]],
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
) -> ir.Value:
    """Sums over 256 float32, in an order that is the same wherever this is compiled.

    Args:
        add: From builder, sums so far, sixteen values and what stands in the arguments
            after the first, the sums with these values.
        arguments: The first is the array, the others are float32.
    """
    (source,) = _arrays(context, builder, signature, arguments, (0,))
    numbers = [_splat(builder, number) for number in arguments[1:]]
    n = len(signature.return_type)
    # By turns, so that an addition need not wait for the one before.
    turns = [[_all(0.0)] * n, [_all(0.0)] * n]
    for k in range(16):
        values = _load(builder, source, ir.IntType(64)(16 * k), ir.FloatType())
        turns[k % 2] = add(builder, turns[k % 2], values, *numbers)
    both = [builder.fadd(a, b) for a, b in zip(*turns, strict=True)]
    sums = [_sum_of_sixteen(builder, values) for values in both]
    return context.make_tuple(builder, signature.return_type, sums)


def _all(number: float) -> ir.Constant:
    """Sixteen times a number that is known before."""
    return ir.Constant(_FLOATS, [number] * 16)


def _sum_of_sixteen(builder: Any, values: ir.Value) -> ir.Value:
    """The sum of sixteen float32: halves are added, then halves of that."""
    index = ir.IntType(32)
    n = 16
    while n > 1:
        n //= 2
        halves = (
            builder.shuffle_vector(
                values,
                ir.Constant(values.type, ir.Undefined),
                ir.Constant(ir.VectorType(index, n), list(range(first, first + n))),
            )
            for first in (0, n)
        )
        values = builder.fadd(*halves)
    return builder.extract_element(values, index(0))


def _multiply_add(builder: Any, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c of sixteen float32, rounded once where the processor does so."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_FLOATS, [_FLOATS] * 3),
        "llvm.fmuladd.v16f32",
    )
    return builder.call(function, [a, b, c])


def _splat(builder: Any, value: ir.Value) -> ir.Value:
    """Sixteen times a float32."""
    first = builder.insert_element(
        ir.Constant(_FLOATS, ir.Undefined), value, ir.IntType(32)(0)
    )
    nowhere = ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16)
    return builder.shuffle_vector(first, ir.Constant(_FLOATS, ir.Undefined), nowhere)
