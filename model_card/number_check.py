"""Check that a card states no number that was not measured, counted or configured."""

import json
import re
from pathlib import Path
from typing import Any

from model.configuration_age_gender import AgeGenderConfig
from model_card.card import card_facts


# Not digits within a word, a version's later parts, or the second half of a range such as 20-29.
_NUMBER = re.compile(r"(?<![\w.@/,-])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w@])")


def unsupported_numbers(folder: Path, text: str) -> list[str]:
    """Numbers in a card's text that are in none of the folder's JSON files, nor counted by `card_facts`.

    A value may be rounded, and a share may be given in percent. Code, links and digits within a word are not looked at.
    """
    folder = Path(folder)
    values, words = set(), set()
    for name in ("config.json", "preprocessor_config.json", "training_run.json", "metrics.json"):
        _collect(json.loads((folder / name).read_text(encoding="utf-8")), values, words)
    # ranges are stored as pairs of years, and read as labels
    _collect([AgeGenderConfig.from_pretrained(folder).age_range_labels, card_facts(folder)], values, words)
    text = re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|https?://\S+", " ", text)
    values |= {100 * value for value in values if abs(value) <= 1}
    rounded: dict[int, set[str]] = {}  # for each number of decimals, all values as a card would write them
    missing = []
    for token in dict.fromkeys(_NUMBER.findall(text)):
        plain = token.replace(",", "")
        decimals = len(plain.partition(".")[2])
        if decimals not in rounded:
            rounded[decimals] = {f"{value:.{decimals}f}" for value in values}
        if plain not in words and plain not in rounded[decimals]:
            missing.append(token)
    return missing


def _collect(content: Any, values: set[float], words: set[str]) -> None:
    """Every number of a JSON value into `values`, and every number written in its texts and keys into `words`."""
    if isinstance(content, dict):
        for key, value in content.items():
            _collect(str(key), values, words)
            _collect(value, values, words)
    elif isinstance(content, list):
        for value in content:
            _collect(value, values, words)
    elif isinstance(content, str):
        words.update(number.replace(",", "") for number in _NUMBER.findall(content))
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        values.add(content)
