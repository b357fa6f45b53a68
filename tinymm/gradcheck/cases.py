"""What `tinymm gradcheck` does: every pair, layer and model of the project, on its examples.

What needs an example is discovered, not listed: each NAME_forward in `tinymm.functional`, each Module that
`tinymm.layers` exports, each model of the catalogue. One without an example is reported as a failure. A pair that has a
NAME_backward_steps is checked a second time with it.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tinymm import functional, layers
from tinymm.catalog import SYSTEMS
from tinymm.gradcheck.checker import gradient_check, gradient_check_module
from tinymm.gradcheck.examples import Generator, ModuleExample, PairExample
from tinymm.gradcheck.layers import LAYERS
from tinymm.gradcheck.models import MODELS
from tinymm.gradcheck.pairs import PAIRS
from tinymm.gradcheck.report import GradientReport, header
from tinymm.layers import Module


class Subject(NamedTuple):
    kind: str    # "pair", "layer" or "model"
    name: str


def discover() -> list[Subject]:
    """Everything the project has that must have a gradient check: pairs, then layers, then models."""
    pairs = sorted(name.removesuffix("_forward") for name in vars(functional) if name.endswith("_forward"))
    classes = sorted(name for name, value in vars(layers).items()
                     if inspect.isclass(value) and issubclass(value, Module) and value is not Module)
    found = {"pair": pairs, "layer": classes, "model": _models()}
    return [Subject(kind, name) for kind, names in found.items() for name in names]


def _models() -> list[str]:
    """The systems; of those that train the same class, only the first."""
    first: dict[str, str] = {}
    for name, system in SYSTEMS.items():
        first.setdefault(system.model, name)
    return list(first.values())


def examples(kind: str, name: str) -> dict[str, Callable[[Generator], PairExample | ModuleExample]]:
    """The examples for a pair, layer or model, by variant; none if nobody has written one."""
    return {"pair": PAIRS, "layer": LAYERS, "model": MODELS}[kind].get(name, {})


def run(kind: str, name: str, rng: Generator) -> list[GradientReport]:
    """Check one pair, layer or model on each of its examples. Without an example the report is a failure."""
    reports = []
    for variant, make in examples(kind, name).items():
        title = f"{name} ({variant})" if variant else name
        example = make(rng)
        if kind != "pair":
            reports.append(gradient_check_module(example.module, example.inputs, rng=rng, name=title,
                                                 max_entries=example.max_entries))
            continue
        forward = getattr(functional, f"{name}_forward")
        backward = getattr(functional, f"{name}_backward", None)
        backward_steps = getattr(functional, f"{name}_backward_steps", None)
        if backward is None:
            reports.append(GradientReport(title, problems=[f"there is no {name}_backward beside {name}_forward"]))
            continue
        options = {"rng": rng, "constants": example.constants, "max_entries": example.max_entries}
        reports.append(gradient_check(forward, backward, example.inputs, name=title, **options))
        if backward_steps is not None:
            steps = f"{title}, step by step"
            reports.append(gradient_check(forward, backward_steps, example.inputs, name=steps, **options))
    missing = f"no example: add one for the {kind} {name} to tinymm/gradcheck/{kind}s.py"
    return reports or [GradientReport(name, problems=[missing])]


def run_all(rng: Generator, only: Iterable[str] | None = None) -> list[GradientReport]:
    """Check everything that `discover` finds, or only the given names.

    Raises:
        ValueError: a name in `only` is no pair, layer or model of the project.
    """
    return [report for kind, name in _chosen(only) for report in run(kind, name, rng)]


def main(names: Sequence[str] = (), seed: int = 0) -> int:
    """Print the table of `tinymm gradcheck [NAME ...]`; returns 0 when everything passes, 1 when not.

    Raises:
        ValueError: as `run_all`.
    """
    started, shown = time.perf_counter(), None
    rng = np.random.default_rng(seed)
    chosen = _chosen(names or None)
    reports = []
    for kind, name in chosen:
        if kind != shown:
            print(header(*_WIDTHS[kind]))
            shown = kind
        for report in run(kind, name, rng):
            print("\n".join(report.lines(*_WIDTHS[kind])), flush=True)
            reports.append(report)
    rows = [(report, row) for report in reports for row in report.rows]
    skipped, failed = sum(row.skipped for _, row in rows), [report.name for report in reports if not report.ok]
    print(f"\n{len(reports)} checks, {len(rows)} arrays, {sum(row.checked for _, row in rows)} entries"
          f"{f' ({skipped} more lie at kinks)' if skipped else ''}, {time.perf_counter() - started:.1f} s")
    if rows:
        report, row = max(rows, key=lambda item: item[1].error)
        print(f"largest relative error {row.error:.1e}, in {report.name}, {row.name}")
    print(f"{len(failed)} FAILED: {'; '.join(failed)}" if failed else "all pass")
    return 1 if failed else 0


_WIDTHS = {"pair": (8, 7), "layer": (38, 7), "model": (47, 7)}     # of names and shapes in the table of `main`


def _chosen(only: Iterable[str] | None) -> list[Subject]:
    found = discover()
    if only is None:
        return found
    wanted, known = list(only), [subject.name for subject in found]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"there is no pair, layer or model called {unknown[0]!r}; there are {', '.join(known)}")
    return [subject for subject in found if subject.name in wanted]
