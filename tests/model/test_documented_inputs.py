"""docs/inputs.md lists what the other tests of pictures check, with the errors' own words.

    python -m tests.model.test_documented_inputs

writes its tables again.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.dataset_inputs import as_list_or_stream, picture_of
from model.image_formats import FORMAT_SUFFIXES, SUFFIXES
from model.image_loading import PictureError, load_rgb
from model_card.metrics_text import markdown_table
from scoring.video import VIDEO_SUFFIXES
from scripts.maintenance import fill_in
from tests.model.test_colour_profiles import PROFILES
from tests.model.test_dataset_inputs import NO_PICTURES, ROWS
from tests.model.test_image_loading import DEEP, NOT_ABOUT_PIXELS, READABLE, TEXTS, UNREADABLE
from tests.trainer.data.test_picture_files import BY_CONTENT, DAMAGED, HIDDEN_NAMES
from trainer.data.picture_files import HIDDEN, NOT_A_PICTURE, why_no_picture


DOCUMENT = Path(__file__).parents[2] / "docs" / "inputs.md"


def load_all(inputs: Any) -> Iterator[np.ndarray]:
    """As the pipeline loads its inputs."""
    inputs = as_list_or_stream(inputs)
    for picture in inputs if isinstance(inputs, list) else [inputs]:
        yield load_rgb(picture_of(picture))


def readable() -> str:
    cases: Iterable[tuple[str, Any, str]] = [
        *((name, data, "read") for name, data, *_ in READABLE),
        *((name, data, "read: the pixels alone decide") for name, data in NOT_ABOUT_PIXELS.items()),
        *((f"colours in {name}", data, "read, converted to sRGB") for name, data in PROFILES.items()),
        *((name, text, "read") for name, text in TEXTS.items()),
        *((f"grey: {name}", data, "read, scaled to 8 bits") for name, data in DEEP.items()),
        *((f"row of a dataset: {name}", row, "read") for name, row in ROWS.items()),
    ]
    rows = []
    for name, inputs, outcome in cases:
        [picture] = load_all(inputs)
        assert picture.dtype == np.uint8
        rows.append((name, outcome))
    return markdown_table(["input", "what happens"], rows)


def unreadable() -> str:
    cases = {name: picture for name, picture, _ in UNREADABLE} | {name: of for name, (of, _) in NO_PICTURES.items()}
    rows = []
    for name, inputs in cases.items():
        with pytest.raises(PictureError) as raised:
            list(load_all(inputs))
        rows.append((name, str(raised.value).replace("|", "\\|").replace("\0", "\\0")))
    return markdown_table(["input", "the error's text"], rows)


def formats() -> dict[tuple[str, ...], list[str]]:
    """{suffixes: formats}: a suffix of several formats in an entry of its own."""
    kinds_of = {
        suffix: [kind for kind, suffixes in FORMAT_SUFFIXES.items() if suffix in suffixes] for suffix in SUFFIXES
    }
    groups = {" ".join(kinds): kinds for kinds in kinds_of.values()}
    return {tuple(suffix for suffix in SUFFIXES if kinds_of[suffix] == kinds): kinds for kinds in groups.values()}


def _outcome_of_damaged(content: bytes) -> str:
    with pytest.raises(PictureError):
        load_rgb(content)
    return "an error in its row of the answers; dropped from training, with the reason in the manifest"


def files() -> str:
    outcomes = {"": "scored; trained on where it has a label", NOT_A_PICTURE: "skipped", HIDDEN: "skipped as hidden"}
    by_content = [
        (f"`{name}`: {case}", outcomes[why_no_picture(name, lambda content=content: content)])
        for case, (name, content, _) in BY_CONTENT.items()
    ]
    by_content += [(f"`{name}`: {case}", _outcome_of_damaged(content)) for case, (name, content) in DAMAGED.items()]
    hidden = [(f"`{name}`", outcomes[why_no_picture(name, bytes)]) for name in HIDDEN_NAMES]
    rows = [
        *((", ".join(suffixes), f"{' or '.join(kinds)}: {outcomes['']}") for suffixes, kinds in formats().items()),
        *by_content,
        *hidden,
        (", ".join(VIDEO_SUFFIXES), "skipped in a folder or archive; its frames are scored where it is named itself"),
    ]
    return markdown_table(["file", "what happens"], rows)


def filled_in(text: str) -> str:
    return fill_in(text, {"files": files(), "readable": readable(), "unreadable": unreadable()}, DOCUMENT.name)


def test_the_tables_are_up_to_date():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled_in(text) == text, "Run `python -m tests.model.test_documented_inputs`."


if __name__ == "__main__":
    DOCUMENT.write_text(filled_in(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
