"""Register tiles: small matrices that live in the processor's vector registers.

A vector instruction works on 4, 8 or 16 neighbouring numbers at once, and a processor has 16 or 32 registers that
hold such a vector. numba's compiler turns simple loops into vector instructions by itself, but it keeps running sums in
memory and often uses only half of the width. So this file gives it a new kind of value, the *register tile*: `rows` rows
of `vectors` vectors each. The micro-kernels in `tile_arithmetic.py` are ordinary Python that computes with them.

Each operation exists twice:
- a generator of machine code (through llvmlite) that numba uses, under `@machine_code(...)`;
- its plain-Python twin, the function directly above it. It computes the same on small NumPy arrays of shape
  (rows, vectors * lanes) and takes over when NUMBA_DISABLE_JIT=1, so that a debugger can step through everything.

Sizes are passed as tuples, `rows=FOUR`, because numba compiles a function anew for each type, and the length of a
tuple belongs to its type. A loop over a list of known length becomes straight code that way.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array, populate_array

ONE, TWO, FOUR, EIGHT = (tuple(range(n)) for n in (1, 2, 4, 8))


def _widest_vector() -> tuple[int, int]:
    """Bytes in a vector register of this processor, and how many registers it has."""
    if config.CPU_FEATURES is not None:                     # the user's NUMBA_CPU_FEATURES
        features = {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    else:
        features = {name for name, present in binding.get_host_cpu_features().items() if present}
    if "avx512f" in features and config.ENABLE_AVX:
        return 64, 32
    if "avx2" in features and config.ENABLE_AVX:
        return 32, 16
    return 16, 32 if "neon" in features else 16


VECTOR_BYTES, REGISTERS = _widest_vector()


def lanes(dtype: Any) -> int:
    """How many numbers of this dtype one vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class TileType(types.Type):
    """numba's type of a register tile."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int):
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        super().__init__(name=f"tile({dtype}, {rows} x {vectors})")

    @property
    def vector(self) -> ir.VectorType:
        scalar = ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()
        return ir.VectorType(scalar, VECTOR_BYTES * 8 // self.dtype.bitwidth)


@register_model(TileType)
class TileModel(models.PrimitiveModel):
    """In the machine code a tile is an array of vectors; the optimiser puts each into a register."""

    def __init__(self, manager: Any, tile: TileType):
        super().__init__(manager, tile, ir.ArrayType(tile.vector, tile.rows * tile.vectors))


def machine_code(twin: Callable) -> Callable[[Callable], Callable]:
    """Pair a code generator with its plain-Python twin: numba calls the one, NUMBA_DISABLE_JIT=1 the other."""
    def pair(generator: Callable) -> Callable:
        return twin if config.DISABLE_JIT else intrinsic(generator)
    return pair


# ---- moving between memory and registers

def _load(array, row, column, rows, vectors):
    return array[row:row + len(rows), column:column + len(vectors) * lanes(array.dtype)].copy()


@machine_code(_load)
def load(typing, array, row, column, rows, vectors):
    """The tile at array[row:, column:]. Neighbours in a row must be neighbours in memory."""
    tile = TileType(array.dtype, len(rows), len(vectors))

    def generate(context, builder, signature, arguments):
        start, (row_bytes, _) = _address(context, builder, array, *arguments[:3])
        return _pack(builder, tile, [
            _load_vector(builder, tile, _step(builder, start, row_bytes, i, j * VECTOR_BYTES))
            for i in range(tile.rows) for j in range(tile.vectors)])
    return tile(array, types.intp, types.intp, rows, vectors), generate


def _load_square(array, row, column):
    return array[row:row + lanes(array.dtype), column:column + lanes(array.dtype)].copy()


@machine_code(_load_square)
def load_square(typing, array, row, column):
    """The square tile at array[row:, column:]: one vector wide, and as many rows as the vector has lanes."""
    tile = TileType(array.dtype, VECTOR_BYTES * 8 // array.dtype.bitwidth, 1)

    def generate(context, builder, signature, arguments):
        start, (row_bytes, _) = _address(context, builder, array, *arguments)
        return _pack(builder, tile, [_load_vector(builder, tile, _step(builder, start, row_bytes, i, 0))
                                     for i in range(tile.rows)])
    return tile(array, types.intp, types.intp), generate


def _store(array, row, column, tile):
    array[row:row + tile.shape[0], column:column + tile.shape[1]] = tile


@machine_code(_store)
def store(typing, array, row, column, tile):
    """Write a tile to array[row:, column:]."""
    def generate(context, builder, signature, arguments):
        start, (row_bytes, _) = _address(context, builder, array, *arguments[:3])
        for n, vector in enumerate(_unpack(builder, tile, arguments[3])):
            i, j = divmod(n, tile.vectors)
            place = _step(builder, start, row_bytes, i, j * VECTOR_BYTES)
            builder.store(vector, builder.bitcast(place, tile.vector.as_pointer())).align = tile.dtype.bitwidth // 8
        return context.get_dummy_value()
    return types.void(array, types.intp, types.intp, tile), generate


def _filled(array, value, rows, vectors):
    return np.full((len(rows), len(vectors) * lanes(array.dtype)), value, array.dtype)


@machine_code(_filled)
def filled(typing, array, value, rows, vectors):
    """A tile of the array's dtype with the same value everywhere."""
    tile = TileType(array.dtype, len(rows), len(vectors))

    def generate(context, builder, signature, arguments):
        return _pack(builder, tile, [_spread(builder, tile, arguments[1])] * (tile.rows * tile.vectors))
    return tile(array, array.dtype, rows, vectors), generate


@machine_code(lambda array: lanes(array.dtype))
def lanes_of(typing, array):
    """How many numbers of the array's dtype one vector holds."""
    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, VECTOR_BYTES * 8 // array.dtype.bitwidth)
    return types.intp(array), generate


# ---- arithmetic

def _add_outer_product(tile, left, row, right, column, k):
    return tile + np.outer(left[row:row + tile.shape[0], k], right[k, column:column + tile.shape[1]])


@machine_code(_add_outer_product)
def add_outer_product(typing, tile, left, row, right, column, k):
    """tile + left[row:, k] x right[k, column:]: step k of a matrix product, one fused multiply-add a vector."""
    def generate(context, builder, signature, arguments):
        sums, left_array, row_, right_array, column_, k_ = arguments
        left_start, (left_bytes, _) = _address(context, builder, left, left_array, row_, k_)
        right_start, _ = _address(context, builder, right, right_array, k_, column_)
        right_vectors = [_load_vector(builder, tile, _step(builder, right_start, None, 0, j * VECTOR_BYTES))
                         for j in range(tile.vectors)]
        left_vectors = []
        for i in range(tile.rows):
            place = builder.bitcast(_step(builder, left_start, left_bytes, i, 0), tile.vector.element.as_pointer())
            left_vectors.append(_spread(builder, tile, builder.load(place)))
        return _pack(builder, tile, [
            _multiply_add(builder, left_vectors[n // tile.vectors], right_vectors[n % tile.vectors], total)
            for n, total in enumerate(_unpack(builder, tile, sums))])
    return tile(tile, left, types.intp, right, types.intp, types.intp), generate


def _elementwise(operate: Callable) -> Callable:
    """The code generator of an operation between two tiles of the same size."""
    def generator(typing, a, b):
        def generate(context, builder, signature, arguments):
            pairs = zip(_unpack(builder, a, arguments[0]), _unpack(builder, b, arguments[1]))
            return _pack(builder, a, [operate(builder, x, y) for x, y in pairs])
        return a(a, b), generate
    return generator


add = machine_code(lambda a, b: a + b)(_elementwise(lambda builder, x, y: builder.fadd(x, y)))
subtract = machine_code(lambda a, b: a - b)(_elementwise(lambda builder, x, y: builder.fsub(x, y)))
multiply = machine_code(lambda a, b: a * b)(_elementwise(lambda builder, x, y: builder.fmul(x, y)))
larger = machine_code(np.maximum)(_elementwise(
    lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y)))


@machine_code(lambda tile, factor: tile * factor)
def scaled(typing, tile, factor):
    """Every number of the tile times the same factor."""
    def generate(context, builder, signature, arguments):
        factors = _spread(builder, tile, arguments[1])
        return _pack(builder, tile, [builder.fmul(x, factors) for x in _unpack(builder, tile, arguments[0])])
    return tile(tile, tile.dtype), generate


# e^x = 2^(x log2 e): the whole part of x log2 e is the exponent of the result, and 2^fraction is a polynomial on [-1/2, 1/2]:
# 1 + fraction * (the one through (2^fraction - 1) / fraction at the Chebyshev points). It is off by no more than rounding is.
# e^0 is exactly 1, so a maximum that stays where it is rescales nothing, and no error grows from tile to tile.
_LOG2_E = 1.4426950408889634
_COEFFICIENTS = {
    dtype: [1.0] + [float(c) for c in np.polynomial.chebyshev.Chebyshev.interpolate(
        lambda fraction: np.expm1(fraction / _LOG2_E) / fraction, degree - 1, domain=[-0.5, 0.5 + 1e-9])    # no point at 0
        .convert(kind=np.polynomial.Polynomial).coef]
    for dtype, degree in (("float32", 5), ("float64", 11))}
_MANTISSA_BITS = {"float32": 23, "float64": 52}
_LOWEST = {"float32": -87.0, "float64": -708.0}     # e^x is below the smallest normal number soon after


def _exp(x):
    name, number = x.dtype.name, x.dtype.type
    bits, integer = _MANTISSA_BITS[name], {"float32": np.int32, "float64": np.int64}[name]
    round_to_whole = number(1.5 * 2**bits)
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = x * number(_LOG2_E) + round_to_whole                     # E1  a number so large has no digits left for a fraction
        fraction = x * number(_LOG2_E) - (shifted - round_to_whole)        # E2  x log2 e = whole + fraction, |fraction| <= 1/2
        power = np.full_like(x, _COEFFICIENTS[name][-1])
        for c in reversed(_COEFFICIENTS[name][:-1]):
            power = power * fraction + number(c)                           # E3  2^fraction
        exponent = shifted.view(integer) << integer(bits)                  # E4  the whole part, moved to where the exponent is kept
        power = (power.view(integer) + exponent).view(x.dtype)             # E5  2^fraction * 2^whole
    return np.where(x < number(_LOWEST[name]), number(0), power)[()]       # E6  too small, or -inf: exactly 0


def _generate_exp(builder, x, dtype):
    name = str(dtype)
    integers = ir.IntType(dtype.bitwidth)
    if isinstance(x.type, ir.VectorType):
        integers = ir.VectorType(integers, x.type.count)
    log2_e, round_to_whole = (_constant(x.type, value, name) for value in (_LOG2_E, 1.5 * 2 ** _MANTISSA_BITS[name]))
    shifted = _multiply_add(builder, x, log2_e, round_to_whole)                                # E1
    whole = builder.fsub(shifted, round_to_whole)
    fraction = _multiply_add(builder, x, log2_e, builder.fneg(whole))                          # E2
    power = _constant(x.type, _COEFFICIENTS[name][-1], name)
    for c in reversed(_COEFFICIENTS[name][:-1]):
        power = _multiply_add(builder, power, fraction, _constant(x.type, c, name))            # E3
    exponent = builder.shl(builder.bitcast(shifted, integers), _constant(integers, _MANTISSA_BITS[name]))    # E4
    power = builder.bitcast(builder.add(builder.bitcast(power, integers), exponent), x.type)   # E5
    too_small = builder.fcmp_ordered("<", x, _constant(x.type, _LOWEST[name], name))
    return builder.select(too_small, _constant(x.type, 0.0, name), power)                      # E6


@machine_code(_exp)
def exp(typing, tile):
    """e^x of each number x <= 0 (and a little above), to about one unit in the last place; e^-inf = 0."""
    def generate(context, builder, signature, arguments):
        return _pack(builder, tile, [_generate_exp(builder, x, tile.dtype) for x in _unpack(builder, tile, arguments[0])])
    return tile(tile), generate


@machine_code(_exp)
def exp_of_number(typing, x):
    """The same of a single number, for the plain loops: unlike the library's exp, the compiler can do it for many numbers at once."""
    def generate(context, builder, signature, arguments):
        return _generate_exp(builder, arguments[0], x)
    return x(x), generate


@machine_code(np.sum)
def sum_of_lanes(typing, tile):
    """The sum of all numbers of the tile."""
    def generate(context, builder, signature, arguments):
        function = builder.module.declare_intrinsic(
            f"llvm.vector.reduce.fadd.v{tile.vector.count}{'f32' if tile.dtype == types.float32 else 'f64'}", (),
            ir.FunctionType(tile.vector.element, [tile.vector.element, tile.vector]))
        total = ir.Constant(tile.vector.element, 0.0)
        for vector in _unpack(builder, tile, arguments[0]):
            total = builder.call(function, [total, vector], fastmath=("reassoc",))      # pairs of halves, not one lane after the other
        return total
    return tile.dtype(tile), generate


@machine_code(np.transpose)
def transpose(typing, tile):
    """Swap rows and columns of a square tile (as many rows as lanes, one vector each), by shuffling halves, quarters, ..."""
    def generate(context, builder, signature, arguments):
        vectors = _unpack(builder, tile, arguments[0])
        count, step = tile.rows, tile.rows // 2
        while step:
            index = ir.VectorType(ir.IntType(32), count)
            low = ir.Constant(index, [i if not i & step else i - step + count for i in range(count)])
            high = ir.Constant(index, [i + step if not i & step else i + count for i in range(count)])
            shuffled = list(vectors)
            for i in range(count):
                if not i & step:
                    shuffled[i] = builder.shuffle_vector(vectors[i], vectors[i + step], low)
                    shuffled[i + step] = builder.shuffle_vector(vectors[i], vectors[i + step], high)
            vectors, step = shuffled, step // 2
        return _pack(builder, tile, vectors)
    return tile(tile), generate


# ---- views of arrays without the price of a slice: counting references takes a fourth of the time of a small attention

def _window(array, row, column, rows, columns):
    return array[row:row + rows, column:column + columns]


@machine_code(_window)
def window(typing, array, row, column, rows, columns):
    """array[row:row + rows, column:column + columns]. The array must outlive the view."""
    view = types.Array(array.dtype, 2, "A")

    def generate(context, builder, signature, arguments):
        start, strides = _address(context, builder, array, *arguments[:3])
        return _make_view(context, builder, view, start, arguments[3:], strides)
    return view(array, *[types.intp] * 4), generate


@machine_code(lambda arrays: arrays)
def borrowed(typing, arrays):
    """The same named tuple of matrices, as views that are not counted. The arrays must outlive it."""
    views = types.NamedTuple([types.Array(a.dtype, 2, "A") for a in arrays], arrays.instance_class)

    def generate(context, builder, signature, arguments):
        values = []
        for n, view in enumerate(views):
            struct = make_array(arrays[n])(context, builder, builder.extract_value(arguments[0], n))
            shape, strides = (cgutils.unpack_tuple(builder, x, 2) for x in (struct.shape, struct.strides))
            values.append(_make_view(context, builder, view, struct.data, shape, strides))
        return context.make_tuple(builder, views, values)
    return views(arrays), generate


@machine_code(lambda arrays: None)
def keep_until_here(typing, arrays):
    """Does nothing, but arrays that are named here are not given back before."""
    def generate(context, builder, signature, arguments):
        return context.get_dummy_value()
    return types.void(arrays), generate


def _head_of(array, b, h):
    return array[b, h]


@machine_code(_head_of)
def head_of(typing, array, b, h):
    """array[b, h]: what belongs to one head, of an array (B, H, ...)."""
    view = types.Array(array.dtype, array.ndim - 2, "A")

    def generate(context, builder, signature, arguments):
        struct = make_array(array)(context, builder, arguments[0])
        shape, strides = (cgutils.unpack_tuple(builder, x, array.ndim) for x in (struct.shape, struct.strides))
        offset = builder.add(builder.mul(arguments[1], strides[0]), builder.mul(arguments[2], strides[1]))
        start = builder.gep(builder.bitcast(struct.data, ir.IntType(8).as_pointer()), [offset])
        return _make_view(context, builder, view, start, shape[2:], strides[2:])
    return view(array, types.intp, types.intp), generate


def _row_of(array, row):
    return array[row]


@machine_code(_row_of)
def row_of(typing, array, row):
    """array[row] as a contiguous array, so that the compiler turns loops over it into vector instructions."""
    view = types.Array(array.dtype, 1, "C")

    def generate(context, builder, signature, arguments):
        start, (_, item_bytes) = _address(context, builder, array, *arguments, context.get_constant(types.intp, 0))
        length = cgutils.unpack_tuple(builder, make_array(array)(context, builder, arguments[0]).shape, 2)[1]
        return _make_view(context, builder, view, start, [length], [item_bytes])
    return view(array, types.intp), generate


STACK_COLUMNS = 64


@machine_code(lambda array: np.empty((4, STACK_COLUMNS), array.dtype))
def stack_block(typing, array):
    """Scratch (4, STACK_COLUMNS) on the stack. The compiler knows that no other array overlaps it, so loops need not check."""
    view = types.Array(array.dtype, 2, "C")

    def generate(context, builder, signature, arguments):
        item_bytes = array.dtype.bitwidth // 8
        scalar = context.get_data_type(array.dtype)
        memory = cgutils.alloca_once(builder, ir.ArrayType(scalar, 4 * STACK_COLUMNS))
        sizes = [context.get_constant(types.intp, n) for n in (4, STACK_COLUMNS, STACK_COLUMNS * item_bytes, item_bytes)]
        return _make_view(context, builder, view, memory, sizes[:2], sizes[2:])
    return view(array), generate


# ---- pieces of the generators

def _address(context, builder, array_type, array, row, column):
    """The address of array[row, column] as a byte pointer, and the array's strides in bytes."""
    struct = make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, struct.strides, 2)
    offset = builder.add(builder.mul(row, strides[0]), builder.mul(column, strides[1]))
    return builder.gep(builder.bitcast(struct.data, ir.IntType(8).as_pointer()), [offset]), strides


def _make_view(context, builder, view, start, shape, strides):
    struct = make_array(view)(context, builder)
    item_bytes = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(view.dtype)))
    populate_array(struct, data=builder.bitcast(start, struct.data.type), shape=list(shape), strides=list(strides),
                   itemsize=item_bytes, meminfo=None)
    return struct._getvalue()


def _step(builder, start, row_bytes, rows, offset_bytes):
    offset = ir.Constant(ir.IntType(64), offset_bytes)
    if rows:
        offset = builder.add(offset, builder.mul(row_bytes, ir.Constant(row_bytes.type, rows)))
    return builder.gep(start, [offset])


def _load_vector(builder, tile, place):
    vector = builder.load(builder.bitcast(place, tile.vector.as_pointer()))
    vector.align = tile.dtype.bitwidth // 8       # it works wherever the numbers start, and fastest at whole vectors
    return vector


def _spread(builder, tile, scalar):
    """A vector with the same number in each lane."""
    undefined, first = ir.Constant(tile.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), tile.vector.count), [0] * tile.vector.count)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, first), undefined, zeros)


def _constant(type_, value, dtype=None):
    """The same value in each lane; rounded to dtype, because a constant must be exact."""
    value = value if dtype is None else float(np.dtype(dtype).type(value))
    return ir.Constant(type_, [value] * type_.count if isinstance(type_, ir.VectorType) else value)


def _multiply_add(builder, x, y, z):
    lanes_, scalar = (f"v{x.type.count}", x.type.element) if isinstance(x.type, ir.VectorType) else ("", x.type)
    name = f"llvm.fmuladd.{lanes_}{'f32' if isinstance(scalar, ir.FloatType) else 'f64'}"    # fused where the processor can
    return builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(x.type, [x.type] * 3)), [x, y, z])


def _pack(builder, tile, vectors):
    value = ir.Constant(ir.ArrayType(tile.vector, tile.rows * tile.vectors), ir.Undefined)
    for n, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, n)
    return value


def _unpack(builder, tile, value):
    return [builder.extract_value(value, n) for n in range(tile.rows * tile.vectors)]
