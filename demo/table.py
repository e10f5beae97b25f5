"""All faces of several pictures as one table, and the same rows as a CSV file that is never written to the server's disk."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from demo.rendering import gender_shares
from model.decoding_age_gender import UNSURE


COLUMNS = (
    "picture",
    "face",
    "age by looks (years)",
    "from (years)",
    "to (years)",
    "age range (years)",
    "gender by looks",
    "confidence",
    "turned (degrees)",
    "note",
)


@dataclass(frozen=True)
class Row:
    """One face (its `number` and the pipeline's answer), or a picture without an answer and the reason (`note`)."""

    picture: str
    number: int | None = None
    face: dict[str, Any] | None = None
    note: str = ""

    def cells(self) -> list[str]:
        """One text for each of `COLUMNS`."""
        face = self.face
        if face is None:
            return [self.picture, *[""] * 8, self.note]
        turned = "" if face["roll_degrees"] is None else str(face["roll_degrees"])
        if face["abstained"]:
            return [self.picture, str(self.number), *[""] * 6, turned, face["abstained"]]
        is_unsure = face["gender"] == UNSURE
        return [
            self.picture,
            str(self.number),
            f"{face['age']:.0f}",
            *map(str, face["age_interval"]),
            face["age_range"],
            face["gender"],
            "" if is_unsure else f"{face['genders'][face['gender']]:.0%}",
            turned,
            gender_shares(face) if is_unsure else "",
        ]


def answers_table(rows: Sequence[Row]) -> str:
    """An HTML table with a link that downloads it as CSV; an empty text for no rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells())}</tr>" for row in rows)
    # by its byte order mark a spreadsheet recognises UTF-8
    data = base64.b64encode(to_csv(rows).encode("utf-8-sig")).decode()
    return (
        f'<p><a class="download" download="faces.csv" href="data:text/csv;base64,{data}">Download as CSV</a></p>'
        '<div class="answers-table" tabindex="0" role="region" aria-label="All faces">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def to_csv(rows: Sequence[Row]) -> str:
    """The rows under `COLUMNS`, as text without a byte order mark."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows([[_plain_text(cell) for cell in row.cells()] for row in rows])
    return buffer.getvalue()


def _plain_text(cell: str) -> str:
    """So that a spreadsheet runs no file name such as "=cmd()": https://owasp.org/www-community/attacks/CSV_Injection"""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
