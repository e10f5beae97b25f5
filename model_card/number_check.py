"""Check that a card states no number that was not measured, counted or configured."""

import json
import re
from pathlib import Path
from typing import Any

from model_card.card import card_facts
from model_card.requirements import COMPARISON


# Not digits within a word, a version's later parts, or the second half of a range such as 20-29.
_NUMBER = re.compile(r"(?<![\w.@/,-])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w@])")
_WITH_INTERVAL = re.compile(r"([+-]?\d+\.?\d*) \[([+-]?\d+\.?\d*), ([+-]?\d+\.?\d*)\]")


def unsupported_numbers(folder: Path, text: str) -> list[str]:
    """Numbers in a card's text that are in none of the folder's JSON files, nor counted by `card_facts`.

    A value may be rounded, and a share may be given in percent; a value with its interval must be one score's, all three.
    Code, links and digits within a word are not looked at, and neither the log of the training nor the record of the
    model that it went on from supports any: they hold so many numbers that any other would be among them.
    """
    folder = Path(folder)
    values, words, scores = set(), set(), []
    for name in ("config.json", "preprocessor_config.json", "training_run.json", "metrics.json", COMPARISON):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            content.pop("log_history", None)
            (content.get("started_from") or {}).pop("record", None)
            _collect(content, values, words, scores)
    _collect(card_facts(folder), values, words, scores)
    text = re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|https?://\S+", " ", text)
    values |= {100 * value for value in values if abs(value) <= 1}
    scores += [[100 * value for value in score] for score in scores if max(map(abs, score)) <= 1]
    missing = []
    for found in _WITH_INTERVAL.finditer(text):
        written = [number.lstrip("+") for number in found.groups()]
        decimals = len(written[0].partition(".")[2])
        if not any([f"{value:.{decimals}f}" for value in score] == written for score in scores):
            missing.append(found[0])
    rounded: dict[int, set[str]] = {}  # for each number of decimals, all values as a card would write them
    for token in dict.fromkeys(_NUMBER.findall(text)):
        plain = token.replace(",", "")
        decimals = len(plain.partition(".")[2])
        if decimals not in rounded:
            rounded[decimals] = {f"{value:.{decimals}f}" for value in values}
        if plain not in words and plain not in rounded[decimals]:
            missing.append(token)
    return missing


def _collect(content: Any, values: set[float], words: set[str], scores: list[list[float]]) -> None:
    """Every number of a JSON value into `values`, every number written in its texts and keys into `words`.

    Each value with an interval goes into `scores` too, as [value, low, high].
    """
    if isinstance(content, dict):
        score = [content.get(end) for end in ("value", "low", "high")]
        if None not in score:
            scores.append(score)
        for key, value in content.items():
            _collect(str(key), values, words, scores)
            _collect(value, values, words, scores)
    elif isinstance(content, list):
        for value in content:
            _collect(value, values, words, scores)
    elif isinstance(content, str):
        words.update(number.replace(",", "") for number in _NUMBER.findall(content))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        values.add(content)
