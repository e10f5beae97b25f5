"""What keeps documents and pictures of this repository as the code is."""

import re


def fill_in(text: str, blocks: dict[str, str], name: str) -> str:
    """Replace what each named pair of markers encloses; a pair on one line stays on one line."""
    for block, content in blocks.items():
        pattern = rf"(<!-- {block} -->)(\n?).*?(<!-- /{block} -->)"
        if not re.search(pattern, text, re.DOTALL):
            raise ValueError(f"{name} has no <!-- {block} --> ... <!-- /{block} -->.")
        # a backslash in what a snippet prints is no escape of the replacement
        replacement = rf"\g<1>\g<2>{content.replace(chr(92), chr(92) * 2)}\g<2>\g<3>"
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    return text
