"""Several pictures at once, in a real Chromium: the filmstrip, the table of all faces, and its file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from skimage.data import astronaut

from tests.support.visitors import choose, drop, hold_decoding, hold_first_question


pytestmark = pytest.mark.slow


@pytest.fixture
def files(portrait: Path, tmp_path: Path) -> list[Path]:
    """A portrait, one of two faces, a bad one, and a PDF."""
    Image.fromarray(np.hstack([astronaut(), astronaut()])).save(tmp_path / "two.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "=cmd().pdf").write_bytes(b"%PDF-1.4")
    return [portrait, tmp_path / "two.png", tmp_path / "bad.png", tmp_path / "=cmd().pdf"]


def test_many_pictures_become_a_filmstrip_and_a_table(page: Page, files: list[Path]):
    choose(page, *files)
    expect(page.get_by_text("4 of 4 pictures", exact=True)).to_be_visible()
    rows = page.locator(".all-faces tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.nth(3)).to_contain_text("cannot be read as a picture")
    expect(page.locator(".hero-age")).to_be_visible()  # the first is on the stage
    page.get_by_role("button", name="two.png: 2 faces found").click()
    expect(page.locator(".faces button.row")).to_have_count(2)
    page.get_by_role("button", name="bad.png: This cannot be read").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be read as a picture")
    page.get_by_role("button", name="Remove this picture").click()
    expect(rows).to_have_count(4)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    table = Path(download.value.path()).read_bytes().decode("utf-8-sig").splitlines()
    assert table[0].startswith("picture,face,age by looks (years),from (years),to (years)")
    assert ",turned (degrees),note,x0,y0,x1,y1,0 to 2,3 to 9," in table[0]
    assert len(table) == 5
    probabilities = [float(cell) for cell in table[1].split(",")[14:]]
    assert sum(probabilities) == pytest.approx(1, abs=0.001)
    assert table[4].startswith("'=cmd().pdf,"), "a spreadsheet reads it as text"
    page.get_by_role("button", name="Remove =cmd().pdf").click()
    expect(rows).to_have_count(3)
    choose(page, files[0], button="Add pictures")
    expect(rows).to_have_count(4)
    drop(page, files[0])
    expect(rows).to_have_count(5)
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Age ranges").select_option("Type your own")
    page.get_by_label("Your ranges").fill("0-116")
    expect(rows.first.locator("td").nth(5)).to_have_text("0+")
    choose(page, files[0], button="New picture")
    expect(page.locator(".film")).to_have_count(0)
    expect(page.locator(".hero-age")).to_be_visible()


def test_many_pictures_can_be_stopped_and_resumed(page: Page, files: list[Path]):
    hold_first_question(page)
    with page.expect_request("**/page/answer"):
        choose(page, *files[:2])
    expect(page.get_by_text("0 of 2 pictures", exact=True)).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.unroute("**/page/answer")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("2 of 2 pictures", exact=True)).to_be_visible()
    expect(page.locator(".all-faces tbody tr")).to_have_count(3)


def test_pictures_that_are_stopped_while_the_first_is_read_can_be_resumed(page: Page, files: list[Path]):
    release = hold_decoding(page)
    choose(page, *files[:2])
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Resume").click()
    release()
    expect(page.get_by_text("2 of 2 pictures", exact=True)).to_be_visible()
    expect(page.locator(".all-faces tbody tr")).to_have_count(3)


def test_more_pictures_than_allowed_are_left_out_and_said(page: Page, tmp_path: Path):
    paths = []
    for number in range(22):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 64), (number, 90, 90)).save(paths[-1])
    choose(page, *paths)
    expect(page.get_by_role("alert")).to_have_text("At most 20 pictures at once: 2 were left out.")
    expect(page.get_by_text("20 of 20 pictures", exact=True)).to_be_visible()
