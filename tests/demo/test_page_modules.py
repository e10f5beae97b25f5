"""The page's JavaScript modules, run in a real Chromium against what Python answers, and on made-up faces."""

import numpy as np
import pytest
from playwright.sync_api import Page

from demo.page import TEXTS
from model.configuration_age_gender import RANGE_SETS, parse_age_ranges
from model.errors import AgeGenderError
from model_card.output_files import safe_cell


pytestmark = pytest.mark.slow
MAX_AGE = 116
TYPED = [
    *RANGE_SETS.values(),
    *("0-17, 18+", "0-17,18+", "0–17; 18-116", "0, 1-116", " 0 - 17 ,\n18 + ", "0-116", "0+"),
    *(
        "",
        " ",
        ",",
        "0-17",
        "0-17, 20+",
        "0-20, 18+",
        "1+",
        "young, old",
        "0-17, 18-200",
        "18+, 0-17",
        "5-3, 4+",
        "-1+",
    ),
    *("0-17, 18+, 117+", "0-17+", "0 17", "=1+1", "0-17, 18-18, 19+"),
]
CELLS = [
    *("=cmd()", "+49", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\n", " =1", "\u3000=1", "\0=1", "'=1", "''-1"),
    *("\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "3-9", "10-19", "3.9", "1/2", "1/2/2017", "3-9\n", "\u0661/\u0662"),
    *(
        "photos/=1.jpg",
        "3-9.jpg",
        "25_1_2_20170116.jpg",
        "70+",
        "3 to 9",
        "31",
        "O'Neill",
        "'quoted'",
        "",
        " ",
        "a,b\n",
    ),
    *(-90, 31, 0.25, -1.5),
]


def ask(page: Page, module: str, code: str, argument: object) -> object:
    """`code` is a function of the module and the argument."""
    load = f"async argument => ({code})(await import(new URL('web/{module}.js', document.baseURI)), argument)"
    return page.evaluate(load, argument)


def test_typed_ranges_are_read_as_the_server_reads_them(page: Page):
    read = """({parseRanges}, [typed, maxAge]) => typed.map(text => {
      try { return parseRanges(text, maxAge) } catch (error) { return error.problem.startsWith('ranges_') }
    })"""
    assert ask(page, "ranges", read, [TYPED, MAX_AGE]) == [by_python(text) for text in TYPED]


def test_cells_of_a_csv_file_are_written_as_those_of_scripts_predict(page: Page):
    """So that no spreadsheet runs a file's name, or takes it for a date."""
    write = "({safeCell}, cells) => cells.map(safeCell)"
    assert ask(page, "table", write, CELLS) == [safe_cell(cell) for cell in CELLS]


def by_python(typed: str) -> list[list[int]] | bool:
    """The ranges, or True for a mistake."""
    try:
        return parse_age_ranges(typed, MAX_AGE)
    except AgeGenderError:
        return True


def test_ranges_are_sums_of_years_and_the_bold_one_holds_the_age(page: Page):
    years = np.random.default_rng(0).dirichlet(np.ones(MAX_AGE + 1))
    face = {"age": 17.6, "year_probabilities": years.tolist()}
    sum_up = "({rangeShares}, [face, ranges, maxAge]) => rangeShares(face, ranges, maxAge)"
    child, adult = ask(page, "ranges", sum_up, [face, [[0, 17], [18, MAX_AGE]], MAX_AGE])
    assert (child["label"], adult["label"]) == ("0-17", "18+")
    assert [child["share"], adult["share"]] == pytest.approx([years[:18].sum(), years[18:].sum()])
    assert (child["hasAge"], adult["hasAge"]) == (False, True), "the headline says 18"


def test_the_line_of_an_age_beyond_the_curve_stands_at_its_end(page: Page):
    face = {"age": 110, "age_interval": [104, 116], "year_probabilities": [1 / (MAX_AGE + 1)] * (MAX_AGE + 1)}
    draw = """({curve}, [face, maxAge]) => {
      const drawn = curve(face, maxAge), {x, width} = drawn.viewBox.baseVal
      return [x, Number(drawn.querySelector('.curve-age').getAttribute('x1')), x + width]
    }"""
    left, age, right = ask(page, "curve", draw, [face, MAX_AGE])
    assert left < age < right


# Both are 10 pixels wide in the picture: one is cut by its edge.
@pytest.mark.parametrize(("left", "key"), [(-30, "which_way_up"), (0, "too_small")])
def test_a_face_without_an_answer_is_told_the_reason_that_the_device_had(page: Page, left: int, key: str):
    decide = "({whyAbstained}, [face, config]) => whyAbstained(face, config)"
    face = {"box": [left, 0, 10, 50], "isRollCertain": False}
    why = ask(page, "device/decoding", decide, [face, {"min_face_pixels": 30}])
    assert why["abstained_key"] == key
    tell = "({abstainedText}, [face, answer]) => abstainedText(face, answer)"
    said = ask(page, "words", tell, [{**why, "box": [0, 0, 10, 50]}, {"min_face_pixels": 30}])
    assert said == TEXTS["en"][key].format(width=10, least=30)


def test_no_number_covers_a_face_or_another_number(page: Page):
    """With 1 to 40 faces of all sizes, as wide as a phone: faces that fill the picture have their numbers beside it."""
    random = np.random.default_rng(0)
    pictures = []
    for count in (1, 2, 5, 17, 40):
        for side in (18, 40, 90):
            corners = random.uniform([0, 0], [390 - side, 260 - side], (count, 2))
            pictures.append([[x, y, x + side, y + 1.2 * side] for x, y in corners])
    pictures += [[[0, 0, 390, 260]], [[0, 0, 195, 260], [195, 0, 390, 260]]]
    place = """({placePins, isFree}, [pictures, radius, above]) => pictures.map(boxes => {
      const pins = placePins(boxes, 390, 260, radius, above)
      return pins.filter((pin, index) => !isFree(pin, boxes, pins.filter((_, other) => other !== index), radius - 0.01)).length
    })"""
    for above in (0, 26):
        assert ask(page, "pins", place, [pictures, 13, above]) == [0] * len(pictures)


def test_a_first_row_of_faces_has_its_numbers_above_it(page: Page):
    boxes = [[x, 4, x + 18, 26] for x in range(20, 380, 60)]
    place = "({placePins}, boxes) => placePins(boxes, 390, 260, 13, 26)"
    assert all(
        pin["y"] < 4 and x0 < pin["x"] < x1
        for pin, (x0, _, x1, _) in zip(ask(page, "pins", place, boxes), boxes, strict=False)
    )


@pytest.mark.parametrize(
    ("middles", "order"),
    [
        ([(300, 50), (100, 60), (200, 40)], [1, 2, 0]),  # one row, not quite level
        ([(300, 50), (100, 160), (200, 45), (250, 170)], [2, 0, 1, 3]),  # two rows
        ([(100, 100)], [0]),
        ([], []),
    ],
)
def test_faces_are_numbered_as_a_page_is_read(page: Page, middles: list[tuple[int, int]], order: list[int]):
    faces = [{"id": number, "box": [x - 20, y - 25, x + 20, y + 25]} for number, (x, y) in enumerate(middles)]
    read = "({inReadingOrder}, faces) => inReadingOrder(faces).map(face => face.id)"
    assert ask(page, "ask", read, faces) == order
