"""CSV files that people open in a spreadsheet: texts stay texts, and none is run as a formula.

Alone in a module because scoring and the preparation of data both write such files.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import IO


ENCODING = (
    "utf-8-sig"  # by the byte order mark a spreadsheet recognises UTF-8; pandas and csv take it off with this name
)
# What Excel and LibreOffice run when they open the file (https://owasp.org/www-community/attacks/CSV_Injection), also after
# spaces, and in the full width of East Asian keyboards; and "3-9" or "10/19", of which they make dates.
_UNSAFE = re.compile(r"[\s\0]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]|\d+[-/.]\d+([-/.]\d+)?$")
_ESCAPED = re.compile(rf"'(?='*({_UNSAFE.pattern}))")


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and the rows, `safe_cell` each. Open `file` with `encoding=ENCODING, newline=""`."""
    writer = csv.writer(file)
    writer.writerow(map(safe_cell, columns))
    writer.writerows(map(safe_cell, row) for row in rows)


def safe_cell(cell: object) -> object:
    """A text that a spreadsheet would take for a formula or a date gets an apostrophe before it. Numbers stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and _UNSAFE.match(cell.lstrip("'")) else cell


def read_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return _ESCAPED.sub("", text, count=1)
