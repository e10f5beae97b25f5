"""Every control that a visitor sees, in every state of the page, in a real Chromium: it is used by what is read on it, and Tab
reaches it. A control that no table names fails the test of its state.
"""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.control_uses import (
    asks_another_model,
    asks_live_model,
    changes_model_on_device,
    changes_ranges,
    closes_dialog,
    copies_card,
    downloads,
    offers_models,
    opens_api_page,
    opens_card,
    opens_dialog,
    opens_file_chooser,
    opens_row,
    opens_tab,
    press,
    removes_picture,
    runs_on,
    scrolls_table,
    selects_picture,
    shapes_card,
    shows_maps,
    starts_server_camera,
    stops_and_resumes,
    stops_live_camera,
    takes_photo,
    tells_of_another_model,
    tries_example,
    types_ranges,
    unfolds,
)
from tests.support.controls import Use, use_every_control, walk_by_keyboard
from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, hold_first_question, start_live, visit


pytestmark = pytest.mark.slow
EXAMPLES = ("An astronaut", "Several faces", "An admiral", "Turned away", "Dark and tilted", "A drawing")


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
        expect(page.get_by_role("button", name="Download card")).to_be_visible()  # the card is drawn first
        card: dict[str, Use] = {
            "Square": shapes_card("Square", 1080),
            "Wide": shapes_card("Wide", 1200),
            "Download card": downloads("Download card", "age.png"),
            "Copy": copies_card,
            "Close": closes_dialog,
        }
        explore(page, card)
        press(page, "Enlarge")
        expect(page.get_by_role("button", name="Close")).to_be_visible()
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
