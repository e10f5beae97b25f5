"""Labels from UTKFace file names and from table rows: what is certain is read, everything else gets a reason."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


UNKNOWN = -100  # the label that losses and metrics skip
MAX_AGE = 116  # years; the oldest label of UTKFace
GENDERS = ("male", "female")  # 0 and 1, as in UTKFace
RACES = ("White", "Black", "Asian", "Indian", "Others")
UNKNOWN_RACE = "unknown"

# A space or a missing dot before the suffix harms nothing. With three numbers the last one must be a long date, or
# `25_0_2.jpg` would be read as a picture without race.
_UTKFACE_NAME = re.compile(
    r"(\d+)_(\d+)_(?:(\d+)_(\d+)|(\d{8,})) *\.?(?:jpe?g|png|webp)(?:\.chip\.jpg)?", re.IGNORECASE | re.ASCII
)
_AGE_RANGE = re.compile(r"\(?(\d+)\s*(?:-|,|to)\s*(\d+)\)?", re.ASCII)
_OPEN_AGE_RANGE = re.compile(r"more than (\d+)|over (\d+)|(\d+)\s*\+", re.ASCII)
_UNKNOWN_WORDS = {"", "na", "n/a", "nan", "none", "null", "unknown"}


@dataclass(frozen=True)
class FaceLabels:
    """Ages in whole years, -100 where unknown; an age range has no `age`. `problem` says why the face must be dropped."""

    age: int = UNKNOWN
    age_low: int = UNKNOWN
    age_high: int = UNKNOWN
    gender: int = UNKNOWN
    race: str = UNKNOWN_RACE
    problem: str = ""


def labels_from_name(file_name: str) -> FaceLabels:
    """Read `<age>_<gender>_<race>_<date>.jpg.chip.jpg`. A missing or unknown race leaves race unknown."""
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
    """Read one row of a table. An empty value is unknown; a row without any label, or with a wrong one, is dropped.

    Args:
        age: whole years, or a range such as "20-29", "(25, 32)", "70+" or "more than 70".
        gender, race: words, whatever their case.
        gender_words: lower-case word -> "male" or "female". race_words: lower-case word -> one of RACES.
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
        ValueError: something else than word=target, or a target that does not exist.
    """
    words = {}
    for item in text.split(","):
        word, _, target = item.partition("=")
        if not word.strip() or target.strip() not in targets:
            raise ValueError(f"Expected word=label with a label among {', '.join(targets)}, got {item.strip()!r}.")
        words[word.strip().lower()] = target.strip()
    return words


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # a column of whole numbers with gaps is read, and written to CSV, as floats
    word = re.sub(r"^(\d+)\.0+$", r"\1", str(value).strip().lower())
    return "" if word in _UNKNOWN_WORDS else word


def _age_bounds(text: str) -> tuple[int, int, str]:
    """(low, high, problem), both years included."""
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
