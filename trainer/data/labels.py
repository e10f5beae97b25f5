"""Read age, gender and race from a file name of UTKFace or IMDB-WIKI, or from the cells of a table row.

Nothing is guessed: a label that is not understood gets a `problem`, which says why the picture must be dropped.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from model.configuration_age_gender import MAX_AGE
from model.losses_age_gender import IGNORE_INDEX
from trainer.data import DatasetError


UNKNOWN = IGNORE_INDEX  # losses and metrics skip it
GENDERS = ("male", "female")  # 0 and 1, as in UTKFace
RACES = ("White", "Black", "Asian", "Indian", "Others")
UNKNOWN_RACE = UNKNOWN_GENDER = "unknown"

# UTKFace has names with a space before the suffix, without its dot, or without a race. Where the race is missing, the
# third number must be a date of eight digits or more: `25_0_2.jpg` lacks its date, not its race.
_UTKFACE_NAME = re.compile(
    r"(\d+)_(\d+)_(?:(\d+)_(\d+)|(\d{8,})) *\.?(?:jpe?g|png|webp)(?:\.chip\.jpg)?", re.IGNORECASE | re.ASCII
)
# IMDB-WIKI's names end in the date of birth and the year of the photo: `10000217_1981-05-05_2009.jpg`.
_IMDB_WIKI_NAME = re.compile(r"\w+_(\d{4}-\d{1,2}-\d{1,2})_(\d{4})\.(?:jpe?g|png|webp)", re.IGNORECASE | re.ASCII)
_DASHES = re.compile("[\u2010-\u2015\u2212~]")  # hyphens, dashes, minus
_BRACKETS = re.compile(r"\((.*)\)|\[(.*)\]")
_YEARS_OLD = re.compile(r"(?<=[\d+)\]])\s*(?:years?|yrs?|y)(?:\s*old)?$")
_AGE_RANGE = re.compile(r"(\d+)\s*(?:-|,|to)\s*(\d+)", re.ASCII)
_OPEN_AGE_RANGE = re.compile(
    r"(?:more than |over |>=\s*|\u2265\s*)(\d+)|(\d+)(?:\s*\+| (?:and|or) (?:over|older|above|more))", re.ASCII
)
_DAY_AND_MONTH = re.compile(r"(\d{1,2})[-. ]+([a-z]{3})|([a-z]{3})[-. ]+(\d{1,2})", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})-(\d{1,2}))?(?:[t ].*)?", re.ASCII)
_UNKNOWN_WORDS = {"", "-", "?", "na", "n/a", "nan", "none", "null", "u", "unk", "unknown", "unsure", "undefined"}
_EXPECTED_AGE = "expected years such as 25 or a range such as 20-29"


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
    """Read `<age>_<gender>_<race>_<date>.jpg.chip.jpg`, or IMDB-WIKI's `<id>_<date of birth>_<year>.jpg`, in any folder.

    A missing or undefined race becomes "unknown".
    """
    name = re.split(r"[/\\]", file_name)[-1]
    match = _UTKFACE_NAME.fullmatch(name)
    if not match and (dates := _IMDB_WIKI_NAME.fullmatch(name)):
        low, high, problem = _age_between(dates[1], dates[2])
        if problem:
            return FaceLabels(problem=problem)
        return FaceLabels(age=low if low == high else UNKNOWN, age_low=low, age_high=high)
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
    age: Any,
    gender: Any,
    race: Any,
    gender_words: Mapping[str, str],
    race_words: Mapping[str, str],
    birth: Any = None,
    photo: Any = None,
) -> FaceLabels:
    """Read one row of a table. An empty cell is unknown; a row needs an age or a gender.

    Args:
        age: whole years, or a range such as "20-29", "(25, 32)", "70+" or "more than 70".
        gender: a word of `gender_words`, in upper or lower case.
        race: a word of `race_words`, in upper or lower case; any other becomes "unknown".
        gender_words: lower-case word -> "male", "female" or "unknown".
        race_words: lower-case word -> one of RACES.
        birth, photo: year, or date as 1981-05-05, of birth and of the photo, from which an unknown age is computed.
    """
    low, high, problem = _parse_age(_word(age))
    if not problem and low == UNKNOWN and _word(birth) and _word(photo):
        low, high, problem = _age_between(_word(birth), _word(photo))
    if problem:
        return FaceLabels(problem=problem)
    word = _plain(gender)
    if word not in gender_words and word not in _UNKNOWN_WORDS:
        return FaceLabels(problem=_unknown_gender(word, gender_words))
    name = gender_words.get(word, UNKNOWN_GENDER)
    if name == UNKNOWN_GENDER and low == UNKNOWN:
        return FaceLabels(problem="no label: neither age nor gender is known")
    return FaceLabels(
        age=low if low == high else UNKNOWN,
        age_low=low,
        age_high=high,
        gender=UNKNOWN if name == UNKNOWN_GENDER else GENDERS.index(name),
        race=race_words.get(_word(race), UNKNOWN_RACE),
    )


def is_known(value: Any, words: Mapping[str, str] | None = None) -> bool:
    """Whether a cell says something: neither empty nor a word such as "unknown", unless it is one of `words`."""
    return bool(_word(value)) or _plain(value) in (words or ())


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


def _plain(value: Any) -> str:
    """In lower case, a whole number without decimals: pandas reads a column of whole numbers with gaps as floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return re.sub(r"^(\d+)\.0+$", r"\1", str(value).strip().lower())


def _word(value: Any) -> str:
    """As `_plain`; "" for a word that means unknown."""
    word = _plain(value)
    return "" if word in _UNKNOWN_WORDS else word


def _unknown_gender(word: str, gender_words: Mapping[str, str]) -> str:
    if word in ("0", "1"):
        return (
            f"gender {word} says nothing: add gender_words: 0=male,1=female (as in UTKFace) or 0=female,1=male (as in "
            "IMDB-WIKI) to the recipe"
        )
    return f"unknown gender: {word!r}, expected one of {', '.join(gender_words)}"


def _parse_age(text: str) -> tuple[int, int, str]:
    """(low, high, problem): first and last year, -100 where unknown, and why the text is no age ("" if it is one)."""
    if not text:
        return UNKNOWN, UNKNOWN, ""
    plain = _YEARS_OLD.sub("", _DASHES.sub("-", text))
    if match := _BRACKETS.fullmatch(plain):
        plain = (match[1] or match[2] or "").strip()
    if plain.isdecimal():
        low = high = int(plain)
    elif match := _AGE_RANGE.fullmatch(plain):
        low, high = int(match[1]), int(match[2])
    elif match := _OPEN_AGE_RANGE.fullmatch(plain):
        low, high = int(match[1] or match[2]), MAX_AGE
    elif (match := _DAY_AND_MONTH.fullmatch(plain)) and (match[2] or match[3]) in _MONTHS:
        # A spreadsheet made a date of 3-9 or 10-19. Which number became the month does not matter: the range ascends.
        low, high = sorted((int(match[1] or match[4]), _MONTHS.index(match[2] or match[3]) + 1))
    elif _DATE.fullmatch(plain) and not plain.isdecimal():
        return UNKNOWN, UNKNOWN, f"age not understood: {text!r}, perhaps a range that a spreadsheet made a date of"
    else:
        return UNKNOWN, UNKNOWN, f"age not understood: {text!r}, {_EXPECTED_AGE}"
    if 1800 <= low == high <= 2100:
        problem = f"age out of range: {text}, a year of birth? Add birth_column and photo_column to the recipe"
        return UNKNOWN, UNKNOWN, problem
    if not low <= high <= MAX_AGE:
        return UNKNOWN, UNKNOWN, f"age out of range: {text}, expected 0 to {MAX_AGE}"
    return low, high, ""


def _age_between(birth: str, photo: str) -> tuple[int, int, str]:
    """As `_parse_age`, from dates or years of birth and photo.

    A photo of which only the year is known counts as taken in the middle of it, as IMDB-WIKI's authors have it. Two years
    leave two ages, as a range.
    """
    dates = []
    for name, text in (("birth", birth), ("photo", photo)):
        match = _DATE.fullmatch(text)
        if not match:
            return UNKNOWN, UNKNOWN, f"{name} not understood: {text!r}, expected a year or a date such as 1981-05-05"
        dates.append(tuple(int(part or 0) for part in match.groups()))
    (born, *birthday), (taken, *day) = dates
    if any(birthday):
        had_birthday = tuple(birthday) <= tuple(day if any(day) else (7, 1))
        low = high = taken - born - (not had_birthday and taken > born)
    else:
        low, high = max(taken - born - 1, 0), taken - born
    if not 0 <= low <= high <= MAX_AGE:
        return UNKNOWN, UNKNOWN, f"age out of range: born {birth}, photo of {photo}, expected 0 to {MAX_AGE} years"
    return low, high, ""
