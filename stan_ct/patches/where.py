"""Conditions on any header field, which tell protocols of one kernel name apart: `Exposure<100,SoftwareVersions~^syngo`."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median

from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from stan_ct.dicom.header import Header
from stan_ct.dicom.series import SeriesFiles
from stan_ct.dicom.tolerance import tolerant
from stan_ct.errors import UsageError

ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
"""Comparisons of numbers."""

FIELD = r"(?:\([0-9A-Fa-f]{4},\s?[0-9A-Fa-f]{4}\)|[A-Za-z0-9]+)"
CONDITION = re.compile(rf"\s*({FIELD})\s*(<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)
BETWEEN = re.compile(rf",(?=\s*{FIELD}\s*(?:<=|>=|!=|=|<|>|~))")
"""A comma between two conditions; one inside a value is followed by no field and operator."""

AGE = re.compile(r"(\d{3})([DWMY])")
"""Value of the representation AS (PS3.5, 6.2)."""
YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
"""Units of an age in a year."""

EQUAL = 1e-9
"""Numbers that differ relatively by no more are equal."""


@dataclass(frozen=True)
class Condition:
    """A condition on a header field, such as `Exposure<100`.

    Attributes:
        field: Keyword, such as `ConvolutionKernel`, or tag, such as `(0053,1042)`.
        comparison: `=`, `!=`, `<`, `>`, `<=`, `>=`, or `~` for a regular expression that is found in the value.
        value: What the field is compared with; empty stands for a field that is absent or empty.
    """

    field: str
    comparison: str
    value: str

    def __str__(self) -> str:
        return f"{self.field}{self.comparison}{self.value}"

    def holds(self, series: SeriesFiles) -> bool:
        """Whether the condition holds for a series: every slice is asked.

        Numbers, and ages in years, are compared by `<`, `>`, `<=` and `>=` with the median over the slices, since tube current
        and with it the exposure change from slice to slice; of a field of several numbers each must satisfy the condition. `=`
        and `~` must hold on every slice, with the whole value or one of several; `!=` is the contrary of `=` on every slice.
        """
        found = [field_values(instance.header, self.field) for instance in series.instances]
        if self.comparison in ORDERS:
            numbers = [n for n in ([x for x in map(_number, values) if x is not None] for values in found) if n]
            middle = [median([n for n in column if n is not None]) for column in zip_longest(*numbers)]
            return bool(middle) and all(ORDERS[self.comparison](n, float(self.value)) for n in middle)
        if self.comparison == "~":
            return all(any(re.search(self.value, text, re.IGNORECASE) for text in _texts(values)) for values in found)
        equal = [any(_equal(text, self.value) for text in _texts(values)) for values in found]
        return all(equal) if self.comparison == "=" else not any(equal)

    def describe(self, series: Iterable[SeriesFiles], shown: int = 6) -> str:
        """Values of the field in some series, for messages.

        Args:
            series: The series.
            shown: Number of values named, at most.
        """
        slices = (instance.header for files in series for instance in files.instances)
        found = sorted({" / ".join(field_values(header, self.field)) or "(none)" for header in slices}, key=_sort_key)
        few = [found[round(i * (len(found) - 1) / max(shown - 1, 1))] for i in range(min(shown, len(found)))]
        if len(found) <= shown:
            few = found
        return f"{self.field} is {', '.join(text[:40] for text in few)}{' among others' if len(found) > shown else ''}"


def parse_conditions(texts: Sequence[str], flag: str = "source_where") -> tuple[Condition, ...]:
    """Conditions as they are written on the command line, several joined by commas.

    Args:
        texts: Conditions.
        flag: Name of the flag, for messages.
    Raises:
        UsageError: If one is none, names a field that does not exist, or compares with something that is no number or no
            regular expression.
    """
    return tuple(_parse(part, flag) for text in texts for part in BETWEEN.split(text))


def _parse(text: str, flag: str) -> Condition:
    match = CONDITION.fullmatch(text)
    if not match:
        raise UsageError(
            f"--{flag} expects conditions FIELD<VALUE, with =, !=, <, >, <=, >= or ~ (regular expression) between them, such "
            f"as Exposure<100 or SeriesDescription~low.dose, not {text!r}"
        )
    condition = Condition(match[1], match[2], match[3].strip())
    if _tag(condition.field) is None:
        near = difflib.get_close_matches(condition.field, _keywords(), 3)
        raise UsageError(
            f"--{flag}: {condition.field} is no DICOM keyword or tag{f', did you mean {near[0]}?' if near else ''} Expected "
            "one such as Exposure, KVP, SeriesDescription or (0053,1042)"
        )
    if condition.comparison in ORDERS and _number(condition.value) is None:
        raise UsageError(f"--{flag}: {condition} needs a number behind {condition.comparison}, not {condition.value!r}")
    if condition.comparison == "~":
        try:
            re.compile(condition.value)
        except re.error as error:
            raise UsageError(f"--{flag}: {condition.value!r} is no regular expression: {error}") from error
    return condition


def field_values(header: Header, field: str) -> list[str]:
    """Values of a field as text without padding; none where it is absent, empty, or does not parse."""
    with tolerant():
        try:
            if field.startswith("("):
                element = header.get(Tag(_tag(field) or 0))
                value = None if element is None else element.value
            else:
                value = header.get(field)
            texts = [_text(v) for v in (value if isinstance(value, list | tuple | MultiValue) else [value])]
        except Exception:  # pydicom raises whatever it meets in a damaged element
            return []
    return [text for text in texts if text]


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip(" \0")


def _texts(values: list[str]) -> list[str]:
    """The values one by one, and all of them joined as DICOM and Convolution Kernels join them."""
    return [*values, "\\".join(values), "/".join(values)] if values else [""]


def _equal(text: str, value: str) -> bool:
    one, other = _number(text), _number(value)
    if one is not None and other is not None:
        return math.isclose(one, other, rel_tol=EQUAL, abs_tol=EQUAL)
    return text.casefold() == value.casefold()


def _number(text: str) -> float | None:
    """The number that a value is, of an age (`018M`) that in years; None if it is none."""
    if age := AGE.fullmatch(text):
        return int(age[1]) / YEAR[age[2]]
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _tag(field: str) -> int | None:
    """Tag of a field, None if there is no such field."""
    if match := re.fullmatch(r"\(([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)", field):
        return int(match[1] + match[2], 16)
    return tag_for_keyword(field)


def _keywords() -> list[str]:
    return [entry[4] for entry in DicomDictionary.values() if entry[4]]


def _sort_key(text: str) -> tuple[bool, float, str]:
    number = _number(text)
    return number is None, number or 0.0, text
