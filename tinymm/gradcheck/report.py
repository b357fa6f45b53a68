"""What a gradient check found, as data and as a table to read."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GradientRow:
    """What was found for one array; `analytic` and `numeric` are the two gradients where they differ most."""

    name: str
    shape: tuple[int, ...]
    checked: int                      # entries, and for a sampled array one random direction through all of them
    skipped: int                      # entries at a kink, where there is no derivative to compare with
    error: float                      # the largest relative error
    where: tuple[int, ...] | None     # the entry that has it; None: the random direction, or nothing was checked
    analytic: float
    numeric: float
    largest: float                    # the largest |numeric| among the checked entries: near 0, little was proved
    ok: bool

    def line(self, name_width: int, shape_width: int) -> str:
        """One line of the table: the widths are those of its first two columns."""
        where = str(list(self.where)) if self.where is not None else "all at once" if self.checked else "nowhere"
        return (f"  {self.name:<{name_width}}  {_shape_text(self.shape):<{shape_width}}  "
                f"{self.checked:>7}  {self.skipped:>5}  {self.error:>10.1e}  "
                f"{where:<12}  {self.analytic:>11.5g}  {self.numeric:>11.5g}  {'pass' if self.ok else 'FAIL'}")


@dataclass
class GradientReport:
    """The result of a gradient check. `str(report)` is the table; `ok` is the verdict.

    `problems` are sentences about what no table of numbers can show: a missing gradient, a wrong shape, a backward
    that overwrites its arguments.
    """

    name: str
    rows: list[GradientRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return bool(self.rows or self.problems) and not self.problems and all(row.ok for row in self.rows)

    @property
    def worst(self) -> GradientRow | None:
        """The row with the largest relative error, failed ones first; None when no array could be checked."""
        return max(self.rows, key=lambda row: (not row.ok, row.error), default=None)

    def lines(self, name_width: int, shape_width: int) -> list[str]:
        """The verdict, a line for each array, a line for each problem."""
        return [f"{self.name}: {'pass' if self.ok else 'FAIL'}",
                *(row.line(name_width, shape_width) for row in self.rows),
                *(f"  problem: {problem}" for problem in self.problems)]

    def __str__(self) -> str:
        name_width = max([5, *(len(row.name) for row in self.rows)])
        shape_width = max([5, *(len(_shape_text(row.shape)) for row in self.rows)])
        verdict, *rest = self.lines(name_width, shape_width)
        return "\n".join([verdict, *([header(name_width, shape_width)] if self.rows else []), *rest])


def header(name_width: int, shape_width: int) -> str:
    """The column titles that stand above the lines of a report."""
    return (f"  {'array':<{name_width}}  {'shape':<{shape_width}}  checked  kinks  rel. error  "
            f"{'at':<12}  {'analytic':>11}  {'numeric':>11}")


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
