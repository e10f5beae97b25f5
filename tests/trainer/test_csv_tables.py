"""CSV files as a spreadsheet reads them."""

import csv

import pytest

from trainer.csv_tables import ENCODING, read_cell, safe_cell, write_csv


CELLS = [
    ("=cmd()", "'=cmd()"),
    ("+49", "'+49"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"),
    ("\r=1", "'\r=1"),
    ("\n=1", "'\n=1"),
    (" =1", "' =1"),  # LibreOffice takes the space off
    ("\uff1d1", "'\uff1d1"),  # = in full width
    ("'=1", "''=1"),  # so that reading gives the same again
    ("3-9", "'3-9"),  # March 9th
    ("10-19", "'10-19"),
    ("1/2/2017", "'1/2/2017"),
    ("photos/=1.jpg", "photos/=1.jpg"),
    ("3-9.jpg", "3-9.jpg"),
    ("25_1_2_20170116.jpg", "25_1_2_20170116.jpg"),
    ("70+", "70+"),
    ("3 to 9", "3 to 9"),
    ("O'Neill", "O'Neill"),
    ("'quoted'", "'quoted'"),
    ("", ""),
    (-1.5, -1.5),  # a number is no text
    (None, None),
]


@pytest.mark.parametrize(("cell", "written"), CELLS, ids=[repr(cell) for cell, _ in CELLS])
def test_cells(cell, written):
    assert safe_cell(cell) == written
    if isinstance(cell, str):
        assert read_cell(written) == cell


def test_a_file_that_a_spreadsheet_opens(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", encoding=ENCODING, newline="") as file:
        write_csv(file, ["näme", "=age"], [["a,b\n", -3], ["=x", None]])
    assert path.read_bytes().startswith(b"\xef\xbb\xbfn")
    with path.open(encoding=ENCODING, newline="") as file:
        assert list(csv.reader(file)) == [["näme", "'=age"], ["a,b\n", "-3"], ["'=x", ""]]
