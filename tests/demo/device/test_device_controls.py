"""Every control that a visitor sees, in every state of the page, in a real Chromium: it is used by what is read on it, and Tab
reaches it. A control that no table names fails the test of its state.
"""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.controls import Use, use_every_control, walk_by_keyboard
from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, hold_first_question, reload, start_live, visit


pytestmark = pytest.mark.slow
EXAMPLES = ("An astronaut", "Several faces", "An admiral", "Turned away", "Dark and tilted", "A drawing")


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


# What is the same in every state, and is used in the first.
ALWAYS: dict[str, Use] = {
    "Live camera": opens_tab("Live camera", "#live"),
    "About": opens_tab("About", "#about"),
    "Pictures": opens_tab("Pictures", ".zone"),
    "Use it in your programs": opens_api_page,
}
TOOLS: dict[str, Use] = {
    "New picture": opens_file_chooser("New picture"),
    "Use camera": opens_dialog("Use camera", "camera"),
    "Download": downloads("Download", "two-age.jpg"),
    "Share": opens_dialog("Share", "share"),
    "Enlarge": opens_dialog("Enlarge", "enlarged"),
}
OPTIONS: dict[str, Use] = {"Model": asks_another_model, "Age ranges": changes_ranges(".bars li")}
DEVICE = ("On this device", "Nothing leaves this device")
SERVER = ("On the server", "Pictures of your camera are sent to the server")


def explore(page: Page, uses: dict[str, Use], *elsewhere: str) -> None:
    walk_by_keyboard(page)
    use_every_control(page, uses, {*ALWAYS, "Options", *elsewhere})


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.png"
    path.write_bytes(b"not a picture")
    return path


def test_every_control_of_the_first_screen_and_of_one_answer(browser: Browser, device_demo: DemoServer, portrait: Path):
    with visit(browser, device_demo) as page:
        page.get_by_role("button", name="Use it in your programs").wait_for()
        privacy = "Your photos are sent to this server, answered, and not kept."
        first_screen: dict[str, Use] = {
            "Choose photos": opens_file_chooser("Choose photos"),
            "Use camera": opens_dialog("Use camera", "camera"),
            privacy: unfolds(privacy, ".notes details p"),
            **{name: tries_example(name) for name in EXAMPLES},
            **ALWAYS,
        }
        explore(page, first_screen)
        press(page, "Use camera")
        expect(page.get_by_role("button", name="Take photo")).to_be_enabled()
        explore(page, {"Close": closes_dialog}, "Take photo")
        press(page, "Use camera")
        takes_photo(page)
        answer: dict[str, Use] = {
            **TOOLS,
            "Download": downloads("Download", "camera-age.jpg"),
            "Add pictures": opens_file_chooser("Add pictures"),
            "Probability of each age range": unfolds("Probability of each age range", ".bars"),
            "Saliency map": unfolds("Saliency map", ".details .plain"),
            "Options": unfolds("Options", "#ranges"),
        }
        explore(page, answer)
        explore(page, {"Show saliency maps": shows_maps, **OPTIONS}, *answer)
        explore(page, {"Your ranges, from 0 years on": types_ranges}, *answer, *OPTIONS)
        press(page, "Share")
        card: dict[str, Use] = {
            "Square": shapes_card("Square", 1080),
            "Wide": shapes_card("Wide", 1200),
            "Download card": downloads("Download card", "age.png"),
            "Copy": copies_card,
            "Close": closes_dialog,
        }
        explore(page, card)
        press(page, "Enlarge")
        explore(page, {"Close": closes_dialog})


def test_every_control_of_several_pictures(
    browser: Browser, device_demo: DemoServer, two: Path, portrait: Path, bad: Path
):
    with visit(browser, device_demo) as page:
        hold_first_question(page)
        with page.expect_request("**/page/answer"):
            choose(page, two, portrait)
        frames = ("(two|portrait).png: .*", "Remove (two|portrait).png", "Add pictures", "Download as CSV", "All faces")
        explore(page, {"Cancel": stops_and_resumes}, *TOOLS, *frames)
        choose(page, bad, button="Add pictures")
        expect(page.get_by_text("3 of 3 pictures")).to_be_visible()
        several: dict[str, Use] = {
            **TOOLS,
            "Add pictures": opens_file_chooser("Add pictures"),
            "two.png: 2 faces found|portrait.png: 1 face found|bad.png: .*": selects_picture,
            "Face [12]: looks about .*": opens_row,
            "Download as CSV": downloads("Download as CSV", "faces.csv"),
            "All faces": scrolls_table,
            "Remove (two|portrait|bad).png": removes_picture,
        }
        explore(page, several)


def test_every_control_of_the_live_camera_and_about(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        page.get_by_role("tab", name="Live camera").click()
        expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
        expect(page.locator("#live progress")).to_be_hidden()
        explore(page, {"Start the camera": start_live}, "On this device", "On the server")
        page.get_by_text("Options", exact=True).click()
        device: dict[str, Use] = {
            "Age ranges": changes_ranges("#live .bars li"),
            "Model": changes_model_on_device,
        }
        explore(page, device, "On this device", "On the server", "Stop")
        stops_live_camera(page)
        runs_on(*SERVER)(page)
        expect(page.get_by_role("button", name="Start the camera")).to_have_count(1)
        own = "Your ranges, from 0 years on"
        explore(page, {"Start the camera": starts_server_camera}, "On this device", "On the server", *OPTIONS, own)
        server: dict[str, Use] = {
            own: types_ranges,
            "Model": asks_live_model,
            "Stop": stops_live_camera,
            "On this device": runs_on(*DEVICE),
        }
        explore(page, server, "On the server", "Age ranges")
        page.get_by_role("tab", name="About").click()
        page.get_by_role("button", name="Choose another model").wait_for()
        about: dict[str, Use] = {
            "Choose another model": offers_models,
            "Model": tells_of_another_model,
            "The whole model card .*": opens_card,
        }
        explore(page, about, "Age ranges", own)
