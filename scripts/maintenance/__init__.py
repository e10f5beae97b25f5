"""What keeps documents and pictures of this repository as the code is."""

import re


def fill_in(text: str, blocks: dict[str, str], name: str) -> str:
    """Replace what each named pair of markers encloses; a pair on one line stays on one line."""
    for block, content in blocks.items():
        match = re.search(rf"<!-- {block} -->(\n?).*?(<!-- /{block} -->)", text, re.DOTALL)
        if match is None:
            raise ValueError(f"{name} has no <!-- {block} --> ... <!-- /{block} -->.")
        text = text[: match.end(1)] + content + match[1] + text[match.start(2) :]
    return text
