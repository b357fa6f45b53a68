"""`tinymm bench attention`: time, precision and memory of attention, forward and backward, beside its competitors.

All competitors stand in one process and get the same arrays. They take turns, so that whatever else the machine does hits all
alike; before a turn there is a pause, in which the other's threads, which may wait by spinning, go to sleep, and one call to get
warm. What is printed is the median over the turns. What is counted:

- GFLOP/s: the multiplications and additions that attention needs, two matrix products forward and four backward, whatever a
  competitor really does (those that save memory compute the scores once more, and then five products backward). A causal mask
  halves them. The fraction is that of the speed of NumPy's own float32 matrix product on this machine.
- error: the largest difference to float64, over the largest entry; the worst of output and gradients.
- memory: the highest point of the process during a forward and backward, beyond the inputs, the output and the gradients.
"""

import argparse
import ctypes
import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import UserError, functional, kernels
from tinymm.bench.machine import BUSY, PAUSE, OtherWork, set_threads
from tinymm.memory import keep_freed_memory

Array = NDArray[np.floating]

FAST, READABLE, NUMPY, SDPA, TORCH, JAX = "tinymm fast", "tinymm readable", "tinymm numpy", "PyTorch SDPA", "PyTorch plain", "JAX plain"
A_TURN = 0.04               # seconds: quick calls are repeated within a turn
COMPARED_SCORES = 2**22     # heads are compared with float64 until this many scores have been
MEMORY_LENGTH = 16384
PLOT_LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
PLOT_SECONDS = 0.5          # a competitor that takes longer than this is not asked for the next length
PLOT_TABLE = 2**30          # nor is one that makes the table of scores, when that exceeds this many bytes


class Shape(NamedTuple):
    B: int
    H: int
    T: int
    S: int
    K: int
    causal: bool = False

    def __str__(self) -> str:
        length = f"{self.T}" if self.T == self.S else f"{self.T}x{self.S}"
        return f"({self.B},{self.H},{length},{self.K}) {'causal' if self.causal else 'full' if self.T == self.S else 'cross'}"

    def operations(self) -> tuple[float, float]:
        """Multiplications and additions of the forward, and of forward and backward."""
        product = 2 * self.B * self.H * self.T * self.S * self.K / (2 if self.causal else 1)
        return 2 * product, 6 * product


SELF = [Shape(B, H, T, T, K, causal) for B, H, T, K in ((32, 4, 64, 32), (8, 8, 256, 64), (1, 8, 1024, 64), (1, 8, 4096, 64))
        for causal in (True, False)]
CROSS = [Shape(32, 4, 32, 64, 32), Shape(32, 4, 32, 200, 32), Shape(16, 4, 32, 256, 64)]
SMALL = [Shape(320, 4, 16, 32, 16)]     # what the main job's training step asks for


class Competitor(NamedTuple):
    """Attention as somebody computes it: inputs are prepared once, then forward gives a state and backward takes it."""

    name: str
    prepare: Callable[[list[Array], bool], Any]        # q, k, v, d_out, causal -> arguments
    forward: Callable[[Any], Any]
    backward: Callable[[Any, Any], Any]
    results: Callable[[Any, Any], list[Array]]         # (state, gradients) -> output, d_q, d_k, d_v
    makes_table: bool                                  # keeps the (T, S) table of weights


def tinymm_competitor(name: str, forward: Callable, backward: Callable, makes_table: bool) -> Competitor:
    return Competitor(
        name, lambda arrays, causal: (*arrays, causal),
        lambda given: forward(*given[:3], causal=given[4]), lambda given, state: backward(given[3], state[1]),
        lambda state, gradients: [state[0], *gradients], makes_table)


def torch_competitors() -> list[Competitor]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    def prepare(arrays: list[Array], causal: bool) -> tuple:
        q, k, v = (torch.from_numpy(x).clone().requires_grad_() for x in arrays[:3])
        return q, k, v, torch.from_numpy(arrays[3]), causal

    def plain(given: tuple) -> Any:
        q, k, v, _, causal = given
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
        return scores.softmax(-1) @ v

    def backward(given: tuple, out: Any) -> Any:
        return torch.autograd.grad(out, given[:3], given[3])

    def results(out: Any, gradients: Any) -> list[Array]:
        return [out.detach().numpy(), *(g.numpy() for g in gradients)]

    return [Competitor(SDPA, prepare, lambda given: scaled_dot_product_attention(*given[:3], is_causal=given[4]), backward, results, False),
            Competitor(TORCH, prepare, plain, backward, results, True)]


def jax_competitor() -> Competitor:
    import jax
    import jax.numpy as jnp

    def attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
        scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
        if causal:
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
        return jax.nn.softmax(scores, -1) @ v

    # vjp returns the function that goes backward, with what it remembers: as a pytree it may leave a compiled function
    forward = jax.jit(lambda q, k, v, causal: jax.vjp(lambda q, k, v: attention(q, k, v, causal), q, k, v), static_argnums=3)
    backward = jax.jit(lambda go_back, d_out: go_back(d_out))
    return Competitor(
        JAX, lambda arrays, causal: (*map(jnp.asarray, arrays), causal),
        lambda given: jax.block_until_ready(forward(*given[:3], given[4])),
        lambda given, state: jax.block_until_ready(backward(state[1], given[3])),
        lambda state, gradients: [np.asarray(x) for x in (state[0], *gradients)], True)


def competitors() -> list[Competitor]:
    """tinymm's three, and those of PyTorch and JAX that are installed."""
    found = [
        tinymm_competitor(FAST, kernels.attention_forward, kernels.attention_backward, False),
        tinymm_competitor(READABLE, kernels.readable_attention_forward, kernels.readable_attention_backward, False),
        tinymm_competitor(NUMPY, functional.attention_forward, functional.attention_backward, True)]
    for package, make in (("PyTorch", torch_competitors), ("JAX", lambda: [jax_competitor()])):
        try:
            found += make()
        except ImportError:
            print(f"{package} is not installed: without it" + (' (pip install "tinymm[peer]")' if package == "PyTorch" else ""))
    return found


# ---- measuring

class Timing(NamedTuple):
    forward: float       # seconds, median over the turns
    both: float
    error: float


def make_arrays(shape: Shape) -> list[Array]:
    """q, k, v and d_out."""
    rng = np.random.default_rng(0)
    B, H, T, S, K, _ = shape
    return [rng.standard_normal((B, H, length, K), dtype=np.float32) for length in (T, S, S, T)]


def measure(shape: Shape, found: list[Competitor], turns: int) -> dict[str, Timing]:
    """Every competitor's median times and error at this shape."""
    arrays = make_arrays(shape)
    prepared = {c.name: c.prepare(arrays, shape.causal) for c in found}
    errors = {c.name: error(c, prepared[c.name], arrays, shape.causal) for c in found}
    seconds: dict[str, list[tuple[float, float]]] = {c.name: [] for c in found}
    for turn in range(turns):
        for competitor in found if turn % 2 else reversed(found):
            seconds[competitor.name].append(take_turn(competitor, prepared[competitor.name]))
    return {name: Timing(*np.median(times, axis=0), errors[name]) for name, times in seconds.items()}


def take_turn(competitor: Competitor, given: Any) -> tuple[float, float]:
    """The medians of a few calls: forward, and forward and backward together."""
    gc.collect()
    time.sleep(PAUSE)
    competitor.backward(given, competitor.forward(given))
    times: list[tuple[float, float]] = []
    while not times or sum(both for _, both in times) < A_TURN:
        begun = time.perf_counter()
        state = competitor.forward(given)
        between = time.perf_counter()
        gradients = competitor.backward(given, state)
        ended = time.perf_counter()
        times.append((between - begun, ended - begun))
        del state, gradients
    return tuple(np.median(times, axis=0))


def error(competitor: Competitor, given: Any, arrays: list[Array], causal: bool) -> float:
    """The largest difference to float64 over the largest entry, the worst of four arrays, in as many heads as are quickly compared."""
    state = competitor.forward(given)
    results = competitor.results(state, competitor.backward(given, state))
    (B, H, T, _), S = arrays[0].shape, arrays[1].shape[2]
    heads = max(1, min(B * H, COMPARED_SCORES // (T * S)))
    q, k, v, d_out = (x.reshape(B * H, *x.shape[2:])[:heads].astype(np.float64) for x in arrays)
    out, cache = functional.attention_forward(q, k, v, causal=causal)
    expected = (out, *functional.attention_backward(d_out, cache))
    worst = [np.abs(actual.reshape(B * H, *actual.shape[2:])[:heads] - exact).max() / np.abs(exact).max()
             for actual, exact in zip(results, expected)]
    return float(max(worst))


def peak_of_matrix_product() -> float:
    """GFLOP/s of NumPy's float32 matrix product, at its best."""
    a, b = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype=np.float32)
    best = min(_seconds(lambda: a @ b) for _ in range(6))
    return 2 * 2048**3 / best / 1e9


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def extra_memory(competitor: Competitor, shape: Shape) -> float | None:
    """Bytes at the highest point of a forward and backward, beyond inputs, output and gradients. None where the system does not tell."""
    small = competitor.prepare(make_arrays(shape._replace(T=128, S=128)), shape.causal)
    competitor.backward(small, competitor.forward(small))                   # compile, start threads
    arrays = make_arrays(shape)
    given = competitor.prepare(arrays, shape.causal)
    returned = sum(x.nbytes for x in arrays)                                # output and gradients are as large as the four inputs
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)                                    # so that memory freed before is not used again unseen
        Path("/proc/self/clear_refs").write_text("5")                       # the highest point so far is forgotten
        before = _status("VmRSS")
        state = competitor.forward(given)
        gradients = competitor.backward(given, state)
        highest = _status("VmHWM")
    except (OSError, AttributeError):
        return None
    del state, gradients
    return max(0.0, highest - before - returned)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(name + ":")))


# ---- showing

def table(shape: Shape, timings: dict[str, Timing], peak: float) -> str:
    """One line a competitor; the ratio is the time of the fast kernel over its own, so below 1 the fast kernel wins."""
    lines = [f"{str(shape):32}{'forward':>10}{'+ backward':>12}{'GFLOP/s':>9}{'of peak':>9}{'error':>9}   fast / it: forward, both"]
    for name, timing in timings.items():
        speed = shape.operations()[1] / timing.both / 1e9
        ratios = f"{timings[FAST].forward / timing.forward:8.2f}{timings[FAST].both / timing.both:8.2f}"
        lines.append(f"  {name:30}{1e3 * timing.forward:7.2f} ms{1e3 * timing.both:9.2f} ms{speed:9.0f}{speed / peak:9.0%}"
                     f"{timing.error:9.0e}{'' if name == FAST else ' ' * 11 + ratios}")
    return "\n".join(lines)


def summary(results: dict[Shape, dict[str, Timing]]) -> str:
    """The worst ratios over all shapes, if PyTorch was there."""
    if not all(SDPA in timings for timings in results.values()):
        return ""
    lines = [f"the largest error of the fast kernel: {max(timings[FAST].error for timings in results.values()):.0e}"]
    for label, name, peers, cross in (("self-attention, fast / PyTorch SDPA", FAST, (SDPA,), False),
                                      ("cross-attention, fast / the faster of PyTorch's", FAST, (SDPA, TORCH), True),
                                      ("all, readable / PyTorch SDPA", READABLE, (SDPA,), None)):
        chosen = [timings for shape, timings in results.items() if cross is None or (shape.T != shape.S) == cross]
        if chosen:
            forward, both = (max(getattr(t[name], part) / min(getattr(t[peer], part) for peer in peers) for t in chosen)
                             for part in ("forward", "both"))
            lines.append(f"largest ratio, {label}: forward {forward:.2f}, forward and backward {both:.2f}")
    return "\n".join(lines)


def curves(found: list[Competitor], lengths: Sequence[int]) -> dict[str, list[tuple[int, float, float | None]]]:
    """Length, seconds and bytes of a forward and backward, for each competitor until it becomes too slow or too large."""
    points: dict[str, list[tuple[int, float, float | None]]] = {c.name: [] for c in found}
    for length in lengths:
        shape = Shape(1, 8, length, length, 64)
        for competitor in found:
            past = points[competitor.name]
            too_large = competitor.makes_table and 4 * shape.H * length**2 > PLOT_TABLE
            if too_large or past and past[-1][1] > PLOT_SECONDS or len(past) < lengths.index(length):
                continue
            given = competitor.prepare(make_arrays(shape), False)
            first = take_turn(competitor, given)[1]
            turns = [take_turn(competitor, given)[1] for _ in range(2 if first < PLOT_SECONDS / 5 else 0)]
            seconds = float(np.median([first, *turns]))
            del given
            past.append((length, seconds, extra_memory(competitor, shape)))
    return points


def draw(points: dict[str, list[tuple[int, float, float | None]]], path: Path, threads: int) -> None:
    """Time and memory against length, each on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from tinymm.plots import DPI, INK, LINE, SERIES, SOFT
    figure = Figure(figsize=(11, 4.6), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for axes, column, factor, title in ((panels[0], 1, 1e3, "Time, ms"), (panels[1], 2, 1e-6, "Extra memory, MB")):
        for (name, series), color in zip(points.items(), SERIES):
            shown = [(point[0], max(point[column] * factor, 0.1)) for point in series if point[column] is not None]
            if shown:
                axes.plot(*zip(*shown), marker="o", markersize=4, linewidth=2.4 if name == FAST else 1.4, color=color, label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = sorted({point[0] for series in points.values() for point in series})
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.set_title(title, loc="left", color=INK)
        axes.set_xlabel("length of the sequence", color=SOFT)
        axes.grid(color=LINE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"Attention, forward and backward: 8 heads of width 64, float32, {threads} threads", x=0.01, ha="left", color=INK)
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tinymm bench attention", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=(__doc__ or "").split(": ", 1)[1])
    parser.add_argument("--quick", action="store_true", help="four shapes and fewer turns: about half a minute")
    parser.add_argument("--turns", type=int, help="how often each competitor has its turn (default: 7, with --quick 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                        help="threads for kernels and PyTorch (default: one a processor)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw time and memory against the length into this picture")
    options = parser.parse_args(argv)
    turns = options.turns or (3 if options.quick else 7)
    if turns < 1 or options.threads < 1:
        raise UserError(f"--turns and --threads must be at least 1, got {turns} and {options.threads}")
    if options.plot is not None and (not options.plot.parent.is_dir() or options.plot.suffix.lower() not in (".png", ".svg", ".pdf")):
        raise UserError(f"--plot needs a file name that ends in .png, .svg or .pdf, in a folder that exists; got {options.plot}")

    keep_freed_memory()      # as training does; else pages of memory are cleared in some turns and not in others
    found = competitors()
    set_threads(options.threads)
    other_work = OtherWork()
    peak = peak_of_matrix_product()
    print(f"float32, {options.threads} threads; NumPy's matrix product: {peak:.0f} GFLOP/s\n")
    results = {}
    for shape in (SELF[0], SELF[3], CROSS[0], SMALL[0]) if options.quick else SELF + CROSS + SMALL:
        results[shape] = measure(shape, found, turns)
        print(table(shape, results[shape], peak) + "\n", flush=True)
    print(summary(results))

    if not options.quick:
        longest = Shape(1, 8, MEMORY_LENGTH, MEMORY_LENGTH, 64)
        for competitor in found:
            if not competitor.makes_table and competitor.name != READABLE:
                extra = extra_memory(competitor, longest)
                if extra is not None:
                    print(f"extra memory at {longest}, forward and backward, {competitor.name}: {extra / 1e6:.0f} MB", flush=True)
    if options.plot is not None:
        draw(curves(found, PLOT_LENGTHS[:5] if options.quick else PLOT_LENGTHS), options.plot, options.threads)
        print(f"picture: {options.plot}")
    disturbance = other_work.processors()
    if disturbance is not None and disturbance > BUSY:
        print(f"disturbed: other processes kept {disturbance:.1f} processors busy; the ratios are rough, the times too long")
    return 0

