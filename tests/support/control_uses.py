"""What a person does with each control of the page, and what comes of it."""

import re

from playwright.sync_api import Page, expect

from tests.support.controls import Use
from tests.support.visitors import hold_first_question, reload, start_live


def press(page: Page, name: str | re.Pattern) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def opens_file_chooser(name: str) -> Use:
    def use(page: Page) -> None:
        with page.expect_file_chooser():
            press(page, name)

    return use


def opens_dialog(name: str, kind: str) -> Use:
    def use(page: Page) -> None:
        press(page, name)
        expect(page.locator(f"dialog.{kind}")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)

    return use


def downloads(name: str, file: str) -> Use:
    def use(page: Page) -> None:
        with page.expect_download() as download:
            press(page, name)
        assert download.value.suggested_filename == file

    return use


def unfolds(summary: str, content: str) -> Use:
    """A fold that is open after it, so that its content is used too."""

    def use(page: Page) -> None:
        page.get_by_text(summary, exact=True).click()
        expect(page.locator(content).first).to_be_visible()

    return use


def tries_example(name: str) -> Use:
    def use(page: Page) -> None:
        asked = hold_first_question(page)
        with page.expect_request("**/page/answer"):
            press(page, name)
        expect(page.locator(".annotated img")).to_be_visible()
        press(page, "Cancel")  # back to the examples
        expect(page.locator(".examples")).to_be_visible()
        assert len(asked) == 1
        page.unroute("**/page/answer")

    return use


def opens_tab(name: str, content: str) -> Use:
    def use(page: Page) -> None:
        page.get_by_role("tab", name=name).click()
        expect(page.locator(content)).to_be_visible()

    return use


def opens_api_page(page: Page) -> None:
    press(page, "Use it in your programs")
    expect(page.get_by_text("result = client.predict(")).to_be_visible()
    reload(page)


def asks_another_model(page: Page) -> None:
    with page.expect_response("**/page/answer") as answer:
        page.get_by_label("Model").select_option("Second")
    assert answer.value.status == 200
    expect(page.locator(".busy")).to_have_count(0)


def changes_ranges(bars: str) -> Use:
    def use(page: Page) -> None:
        page.get_by_label("Age ranges").select_option("Child / adult")
        expect(page.locator(bars).last).to_contain_text(re.compile(r"^(0-17|18\+)"))
        page.get_by_label("Age ranges").select_option("Type your own")

    return use


def types_ranges(page: Page) -> None:
    page.get_by_label("Your ranges").fill("0-116")
    expect(page.locator(".bars .best span").first).to_have_text("0+")


def shows_maps(page: Page) -> None:
    press(page, "Show saliency maps")
    expect(page.locator(".maps img")).to_have_count(2)


def selects_picture(page: Page) -> None:
    press(page, re.compile("^bad.png: This cannot be read"))
    expect(page.get_by_role("button", name="Remove this picture")).to_be_visible()
    press(page, "two.png: 2 faces found")
    expect(page.locator(".faces button.row")).to_have_count(2)


def opens_row(page: Page) -> None:
    row = page.locator(".faces button.row").nth(1)
    row.click()
    expect(page.locator(".face.open .curve")).to_be_visible()
    row.click()
    expect(page.locator(".face.open")).to_have_count(0)


def scrolls_table(page: Page) -> None:
    """By its arrow keys on a narrow screen, where it is wider than the page."""
    size = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 844})
    table = page.locator(".all-faces .table")
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.all-faces .table').scrollLeft > 0")
    page.set_viewport_size(size)


def removes_picture(page: Page) -> None:
    press(page, "Remove bad.png")
    expect(page.get_by_text("2 of 2 pictures")).to_be_visible()


def shapes_card(shape: str, width: int) -> Use:
    def use(page: Page) -> None:
        page.get_by_text(shape, exact=True).click()
        expect(page.get_by_role("img", name="The share card")).to_have_js_property("naturalWidth", width)

    return use


def copies_card(page: Page) -> None:
    press(page, "Copy")
    expect(page.get_by_text("Copied")).to_be_visible()


def closes_dialog(page: Page) -> None:
    press(page, "Close")
    expect(page.locator("dialog")).to_have_count(0)


def takes_photo(page: Page) -> None:
    press(page, "Take photo")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".annotated rect.box")).to_have_count(1)


def stops_live_camera(page: Page) -> None:
    press(page, "Stop")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def starts_server_camera(page: Page) -> None:
    press(page, "Start the camera")
    expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()


def changes_model_on_device(page: Page) -> None:
    """The camera goes off, and starts again with the other model."""
    with page.expect_response("**/device/models/1.json"):
        page.get_by_label("Model").select_option("Second")
    start_live(page)


def asks_live_model(page: Page) -> None:
    """The next picture that is sent names it."""
    with page.expect_request(lambda request: request.method == "POST" and '"First"' in (request.post_data or "")):
        page.get_by_label("Model").select_option("First")


def runs_on(where: str, told: str) -> Use:
    def use(page: Page) -> None:
        page.get_by_label(where).check()
        expect(page.get_by_text(told)).to_be_visible()

    return use


def offers_models(page: Page) -> None:
    press(page, "Choose another model")
    expect(page.get_by_label("Model")).to_be_focused()


def tells_of_another_model(page: Page) -> None:
    page.get_by_label("Model").select_option("Second")
    expect(page.locator("#about")).to_contain_text("Second (a local folder")


def opens_card(page: Page) -> None:
    press(page, re.compile("^The whole model card"))
    expect(page.locator("#card")).to_contain_text("Random weights")


def stops_and_resumes(page: Page) -> None:
    press(page, "Cancel")
    page.unroute("**/page/answer")
    press(page, "Resume")
    expect(page.get_by_text("2 of 2 pictures")).to_be_visible()
