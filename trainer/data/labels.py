"""Read age, gender and race from a UTKFace file name or from the cells of a table row.

Nothing is guessed: a label that is not understood gets a `problem`, which says why the picture must be dropped.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from model.configuration_age_gender import MAX_AGE
from model.modeling_age_gender import IGNORE_INDEX
from trainer.data import DatasetError


UNKNOWN = IGNORE_INDEX  # losses and metrics skip it
GENDERS = ("male", "female")  # 0 and 1, as in UTKFace
RACES = ("White", "Black", "Asian", "Indian", "Others")
UNKNOWN_RACE = "unknown"

# UTKFace has names with a space before the suffix, without its dot, or without a race. Where the race is missing, the
# third number must be a date of eight digits or more: `25_0_2.jpg` lacks its date, not its race.
_UTKFACE_NAME = re.compile(
    r"(\d+)_(\d+)_(?:(\d+)_(\d+)|(\d{8,})) *\.?(?:jpe?g|png|webp)(?:\.chip\.jpg)?", re.IGNORECASE | re.ASCII
)
_AGE_RANGE = re.compile(r"\(?(\d+)\s*(?:-|,|to)\s*(\d+)\)?", re.ASCII)
_OPEN_AGE_RANGE = re.compile(r"more than (\d+)|over (\d+)|(\d+)\s*\+", re.ASCII)
_UNKNOWN_WORDS = {"", "na", "n/a", "nan", "none", "null", "unknown"}


@dataclass(frozen=True)
class FaceLabels:
    """Labels of one picture.

    Attributes:
        age: in whole years; -100 where it is unknown or only a range is known.
        age_low, age_high: first and last year of the age range, equal for an exact age; -100 where unknown.
        gender: 0 male, 1 female, -100 unknown.
        race: one of RACES, or "unknown".
        problem: why the picture must be dropped; "" if it can be used.
    """

    age: int = UNKNOWN
    age_low: int = UNKNOWN
    age_high: int = UNKNOWN
    gender: int = UNKNOWN
    race: str = UNKNOWN_RACE
    problem: str = ""


def labels_from_name(file_name: str) -> FaceLabels:
    """Read `<age>_<gender>_<race>_<date>.jpg.chip.jpg`, in any folder. A missing or undefined race becomes "unknown"."""
    match = _UTKFACE_NAME.fullmatch(file_name.rsplit("/", 1)[-1])
    if not match:
        return FaceLabels(problem="name not understood: expected <age>_<gender>_<race>_<date>.jpg")
    age, gender = int(match[1]), int(match[2])
    if age > MAX_AGE:
        return FaceLabels(problem=f"age out of range: {age}, expected 0 to {MAX_AGE}")
    if gender >= len(GENDERS):
        return FaceLabels(problem=f"unknown gender: {gender}, expected 0 (male) or 1 (female)")
    race = RACES[int(match[3])] if match[3] and int(match[3]) < len(RACES) else UNKNOWN_RACE
    return FaceLabels(age, age, age, gender, race)


def labels_from_values(
    age: Any, gender: Any, race: Any, gender_words: Mapping[str, str], race_words: Mapping[str, str]
) -> FaceLabels:
    """Read one row of a table. An empty cell is unknown; a row needs an age or a gender.

    Args:
        age: whole years, or a range such as "20-29", "(25, 32)", "70+" or "more than 70".
        gender: a word of `gender_words`, in upper or lower case.
        race: a word of `race_words`, in upper or lower case; any other becomes "unknown".
        gender_words: lower-case word -> "male" or "female".
        race_words: lower-case word -> one of RACES.
    """
    low, high, problem = _age_bounds(_word(age))
    if problem:
        return FaceLabels(problem=problem)
    gender_word = _word(gender)
    if gender_word and gender_word not in gender_words:
        return FaceLabels(problem=f"unknown gender: {gender_word!r}, expected one of {', '.join(gender_words)}")
    if not gender_word and low == UNKNOWN:
        return FaceLabels(problem="no label: neither age nor gender is known")
    return FaceLabels(
        age=low if low == high else UNKNOWN,
        age_low=low,
        age_high=high,
        gender=GENDERS.index(gender_words[gender_word]) if gender_word else UNKNOWN,
        race=race_words.get(_word(race), UNKNOWN_RACE),
    )


@cache
def parse_words(text: str, targets: tuple[str, ...]) -> dict[str, str]:
    """`"Mann=male, Frau=female"` -> {"mann": "male", "frau": "female"}.

    Raises:
        DatasetError: an item is not word=target, or its target is not one of `targets`.
    """
    words = {}
    for item in text.split(","):
        word, _, target = item.partition("=")
        if not word.strip() or target.strip() not in targets:
            raise DatasetError(f"Expected word=label with a label among {', '.join(targets)}, got {item.strip()!r}.")
        words[word.strip().lower()] = target.strip()
    return words


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # pandas reads a column of whole numbers with gaps as floats
    word = re.sub(r"^(\d+)\.0+$", r"\1", str(value).strip().lower())
    return "" if word in _UNKNOWN_WORDS else word


def _age_bounds(text: str) -> tuple[int, int, str]:
    """(low, high, problem): first and last year, -100 where unknown, and why the text is no age ("" if it is one)."""
    if not text:
        return UNKNOWN, UNKNOWN, ""
    if text.isdecimal():
        low = high = int(text)
    elif match := _AGE_RANGE.fullmatch(text):
        low, high = int(match[1]), int(match[2])
    elif match := _OPEN_AGE_RANGE.fullmatch(text):
        low, high = int(match[1] or match[2] or match[3]), MAX_AGE
    else:
        return UNKNOWN, UNKNOWN, f"age not understood: {text!r}, expected years such as 25 or a range such as 20-29"
    if not low <= high <= MAX_AGE:
        return UNKNOWN, UNKNOWN, f"age out of range: {text}, expected 0 to {MAX_AGE}"
    return low, high, ""
