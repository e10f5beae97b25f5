"""What becomes of a picture in the browser: it is reduced and sent, shown, enlarged, and made into a card to share."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Download, Page, expect
from skimage.data import astronaut

from tests.support.visitors import choose, drop, hold_decoding, hold_first_question


pytestmark = pytest.mark.slow


def test_a_kind_of_picture_that_the_browser_cannot_show_is_shown_by_the_server(
    page: Page, portrait: Path, tmp_path: Path
):
    tiff = tmp_path / "portrait.tiff"
    Image.open(portrait).save(tiff)
    choose(page, tiff)
    expect(page.locator(".hero-age")).to_be_visible()
    expect(page.locator(".annotated img")).to_have_js_property("naturalWidth", 512)
    expect(page.locator(".annotated rect.box")).to_have_count(1)


def test_what_its_name_calls_a_jpeg_is_shown_by_the_server_where_it_is_none(page: Page, portrait: Path, tmp_path: Path):
    tiff = tmp_path / "portrait.jpg"
    Image.open(portrait).save(tiff, format="TIFF", compression="jpeg")
    choose(page, tiff)
    expect(page.locator(".annotated img")).to_have_js_property("naturalWidth", 512)
    expect(page.locator(".annotated rect.box")).to_have_count(1)


def test_a_small_picture_is_sent_while_it_is_decoded_and_then_shown_as_one_element(page: Page, tmp_path: Path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(astronaut()).save(photo)
    release, asked = hold_decoding(page), hold_first_question(page)
    with page.expect_request("**/page/answer"):
        choose(page, photo)
    expect(page.locator(".annotated")).to_have_count(0)
    release()
    picture = page.locator(".annotated img").element_handle()
    asked[0].continue_()
    expect(page.locator(".annotated rect.box")).to_have_count(1)
    assert picture.evaluate("picture => picture === document.querySelector('.annotated img')")
    assert len(asked) == 1


def test_a_large_photo_is_reduced_before_it_is_sent(page: Page, tmp_path: Path):
    photo = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 40, (3072, 3072, 3), np.uint8)
    large = np.asarray(Image.fromarray(astronaut()).resize((3072, 3072))) // 2 + noise
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise, as phones write it
    Image.fromarray(np.rot90(large)).save(photo, quality=92, exif=exif)
    assert photo.stat().st_size > 3_000_000
    with page.expect_request("**/page/answer") as question:
        choose(page, photo)
    assert int(question.value.all_headers()["content-length"]) < photo.stat().st_size / 3
    expect(page.locator(".hero-age")).to_be_visible()
    box, shown = (page.locator(name).bounding_box() for name in (".annotated rect.box", ".annotated img"))
    assert (box["x"] - shown["x"]) / shown["width"] == pytest.approx(178 / 512, abs=0.03)
    assert (box["y"] - shown["y"]) / shown["height"] == pytest.approx(66 / 512, abs=0.03)


def picture_of(download: Download) -> Image.Image:
    return Image.open(io.BytesIO(Path(download.path()).read_bytes()))


def test_the_card_and_the_copy_are_made_in_the_browser(page: Page, portrait: Path):
    choose(page, portrait)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    copy = picture_of(download.value)
    assert (copy.format, copy.size, download.value.suggested_filename) == ("JPEG", (512, 512), "portrait-age.jpg")
    drawn = np.abs(np.asarray(copy.convert("RGB"), int) - astronaut()).max(axis=2) > 60
    assert drawn[60:180, 170:280].sum() > 300, "the box"
    near_accent = np.abs(np.asarray(copy.convert("RGB"), int) - (15, 118, 110)).max(axis=2) < 25
    assert near_accent.sum() > 200, "the pin with the age"
    # as a phone's system that takes PNG files
    page.evaluate(
        """() => {
          const hex = digest => [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, '0')).join('')
          navigator.canShare = ({files}) => files.every(({type}) => type === 'image/png')
          navigator.share = async ({files: [file]}) => {
            const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer())
            window.shared = [file.name, file.type, file.size, hex(digest)]
          }
        }"""
    )
    page.get_by_role("button", name="Share", exact=True).click()
    card = page.get_by_role("img", name="The share card")
    for shape, size in (("Wide", (1200, 630)), ("Square", (1080, 1080))):
        page.get_by_text(shape, exact=True).click()
        expect(card).to_have_js_property("naturalWidth", size[0])
        with page.expect_download() as download:
            page.get_by_role("button", name="Download card").click()
        assert picture_of(download.value).size == size
        page.get_by_role("button", name="Share …").click()
        page.wait_for_function("window.shared")
        card_file = Path(download.value.path()).read_bytes()
        digest = hashlib.sha256(card_file).hexdigest()
        assert page.evaluate("[shared, delete window.shared][0]") == ["age.png", "image/png", len(card_file), digest]
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    kinds = page.evaluate("navigator.clipboard.read().then(items => items[0].types)")
    assert kinds == ["image/png"]
    # what is dropped over a dialog or another tab is not taken, and the browser does not open it in place of the page
    age = page.locator(".hero-age").inner_text()
    drop(page, portrait)
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    page.get_by_role("tab", name="About").click()
    drop(page, portrait)
    expect(page.locator(".veil")).to_be_hidden()
    page.get_by_role("tab", name="Pictures").click()
    expect(page.locator(".hero-age")).to_have_text(age)
    expect(page.locator(".film")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_camera_is_off_when_its_dialog_closes_however_often_it_was_flipped(page: Page):
    page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, start = devices.getUserMedia.bind(devices)
          window.streams = []
          devices.enumerateDevices = async () => [{kind: 'videoinput'}, {kind: 'videoinput'}]
          devices.getUserMedia = async wishes => {
            const stream = await start({video: true})
            streams.push(stream)
            await new Promise(resolve => setTimeout(resolve, 300)) // two presses fit in
            return stream
          }
        }"""
    )
    page.get_by_role("button", name="Use camera").click()
    flip = page.get_by_role("button", name="Other camera")
    flip.dblclick()
    expect(flip).to_be_enabled()
    page.wait_for_function("document.querySelector('dialog video')?.srcObject.active")
    page.get_by_role("button", name="Close").click()
    page.wait_for_function("streams.every(stream => !stream.active)")


def test_enlarging_really_enlarges(page: Page, portrait: Path):
    small = portrait.with_name("small.png")
    Image.open(portrait).resize((200, 200)).save(small)
    choose(page, small)
    expect(page.locator(".hero-age")).to_be_visible()
    shown = page.locator(".picture .annotated img").bounding_box()
    page.get_by_role("button", name="Enlarge").click()
    expect(page.locator("dialog .annotated img")).to_have_js_property("naturalWidth", 200)
    large = page.locator("dialog .annotated img").bounding_box()
    assert large["width"] > 2 * shown["width"]
    size = page.viewport_size
    assert large["y"] >= 0
    assert large["y"] + large["height"] <= size["height"]
    expect(page.locator("dialog rect.box")).to_have_count(1)
    expect(page.locator("dialog .pin-number")).to_have_text(page.locator(".hero-age").inner_text())
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.reload()
    page.locator(".example").nth(1).click()  # wider than high
    page.get_by_role("button", name="Enlarge").click()
    wide = page.locator("dialog .annotated img").bounding_box()
    assert wide["x"] >= 0
    assert wide["x"] + wide["width"] <= size["width"]
