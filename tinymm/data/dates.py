"""Dates as people write them, and the same dates as ISO 8601 does: a rewriting whose right answer can be computed.

    Tuesday, March 3rd, 1987      ->      1987-03-03

Who rewrites them must know the names of the months, that 3.4. is in April and 3/4 in March, that '87 is 1987 and '31 is
2031, and must leave the weekday out. The dates run from 1970 to 2049, so two digits of a year are enough.
"""

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

from tinymm.data.text_pairs import TextPair, TextPairs, collect

FIRST, LAST = date(1970, 1, 1), date(2049, 12, 31)
# Spelt out here, as those of `datetime` follow the language of the machine.
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def ordinal(day: int) -> str:
    """1 -> "1st", 2 -> "2nd", 11 -> "11th"."""
    ending = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _month(day: date) -> str:
    return MONTHS[day.month - 1]


def _weekday(day: date) -> str:
    return WEEKDAYS[day.weekday()]


# the form, shown by an example -> how a date is written in it
FORMS: dict[str, Callable[[date], str]] = {
    "3 March 1987": lambda d: f"{d.day} {_month(d)} {d.year}",
    "March 3, 1987": lambda d: f"{_month(d)} {d.day}, {d.year}",
    "the 3rd of March 1987": lambda d: f"the {ordinal(d.day)} of {_month(d)} {d.year}",
    "Tuesday, March 3rd, 1987": lambda d: f"{_weekday(d)}, {_month(d)} {ordinal(d.day)}, {d.year}",
    "Tue 3 Mar 1987": lambda d: f"{_weekday(d)[:3]} {d.day} {_month(d)[:3]} {d.year}",
    "3 Mar '87": lambda d: f"{d.day} {_month(d)[:3]} '{d.year % 100:02d}",
    "03-Mar-87": lambda d: f"{d.day:02d}-{_month(d)[:3]}-{d.year % 100:02d}",
    "3.3.1987 (day first)": lambda d: f"{d.day}.{d.month}.{d.year}",
    "3/3/87 (month first)": lambda d: f"{d.month}/{d.day}/{d.year % 100:02d}",
    "1987, March 3": lambda d: f"{d.year}, {_month(d)} {d.day}",
}


def date_pairs(count: int, rng: np.random.Generator, split: str = "train") -> TextPairs:
    """Dates of a split, each in a form drawn by lot, and in ISO 8601. The kind of a pair is its form.

    Raises:
        ValueError: an unknown split, or a count above about half of all dates of the split in all forms.
    """
    days, forms = (LAST - FIRST).days + 1, list(FORMS.items())

    def draw() -> tuple[str, TextPair]:
        day = FIRST + timedelta(days=int(rng.integers(days)))
        form, write = forms[rng.integers(len(forms))]
        return day.isoformat(), TextPair(write(day), day.isoformat(), form)

    return collect(count, split, draw)
