"""All faces of several pictures as one table, with the same rows as a CSV file that never touches the server's disk."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from demo.rendering import gender_shares
from model.pipeline_age_gender import UNSURE


COLUMNS = (
    "picture",
    "face",
    "age by looks (years)",
    "from (years)",
    "to (years)",
    "age range (years)",
    "gender by looks",
    "how sure",
    "note",
)


@dataclass(frozen=True)
class Row:
    """One face (`number`, the pipeline's answer), or a picture without one and why (`note`)."""

    picture: str
    number: int | None = None
    face: dict | None = None
    note: str = ""

    def cells(self) -> list[str]:
        face = self.face
        if face is None:
            return [self.picture, *[""] * 7, self.note]
        if face["abstained"]:
            return [self.picture, str(self.number), *[""] * 6, face["abstained"]]
        is_unsure = face["gender"] == UNSURE
        return [
            self.picture,
            str(self.number),
            f"{face['age']:.0f}",
            *map(str, face["age_interval"]),
            face["age_range"],
            face["gender"],
            "" if is_unsure else f"{face['genders'][face['gender']]:.0%}",
            gender_shares(face) if is_unsure else "",
        ]


def answers_table(rows: Sequence[Row]) -> str:
    """HTML table with a download link; empty where there is nothing to tell."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells())}</tr>" for row in rows)
    data = base64.b64encode(to_csv(rows).encode("utf-8-sig")).decode()  # the mark lets spreadsheets see UTF-8
    return (
        f'<p><a class="download" download="faces.csv" href="data:text/csv;base64,{data}">Download as CSV</a></p>'
        '<div class="answers-table" tabindex="0" role="region" aria-label="All faces">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def to_csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows([[_plain_text(cell) for cell in row.cells()] for row in rows])
    return buffer.getvalue()


def _plain_text(cell: str) -> str:
    """A file called "=cmd()" must stay text when a spreadsheet opens the table."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
