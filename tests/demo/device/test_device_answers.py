"""The model in the visitor's own browser, in a real Chromium: it answers as the pipeline does, on the static site too."""

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect
from skimage.data import astronaut

from demo.device_files import write_site
from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice
from scripts.benchmarks.device_parity import LOAD, compare, faces_of, pictures
from scripts.benchmarks.visiting import serve_folder
from tests.support.visitors import choose, start_live
from tests.support.web_model import in_full_precision


pytestmark = pytest.mark.slow
FEW = ("portrait", "tilted 25 degrees", "group of 6", "too small to answer")


@pytest.mark.parametrize(
    ("full_precision", "age_years"), [(False, 0.5), (True, 0.1)], ids=["shipped, 8-bit weights", "tiny, fp32"]
)
def test_the_device_answers_as_the_pipeline(
    browser: Browser, web_model: Path, tmp_path: Path, full_precision: bool, age_years: float
):
    folder = in_full_precision(web_model, tmp_path / "model") if full_precision else Path(DEFAULT_MODEL)
    shown = {name: picture for name, picture in pictures().items() if name != "at 4 times"}
    if full_precision:
        shown = {name: shown[name] for name in FEW}
    served = find_model(ModelChoice("model", str(folder)))
    write_site(served, tmp_path / "site")
    with serve_folder(tmp_path / "site") as address:
        page = browser.new_page()
        page.goto(address)
        page.evaluate(LOAD, None)
        differences = compare(page, served.pipeline, shown)
        differences |= compare(page, served.pipeline, {"as one face": astronaut()[60:185, 170:275]}, whole=True)
        archive = Path(DEFAULT_MODEL).parents[1] / "shared" / "data" / "UTKFace.tar.gz"
        if archive.is_file():
            differences |= compare(page, served.pipeline, faces_of(archive, 8))
        page.close()
    for name, one in differences.items():
        assert one.faces[0] == one.faces[1], name
        assert one.box_pixels <= 2, name
        assert one.age_years <= age_years, name
        assert one.other_answers == (), name
    counts = [differences[name].faces[0] for name in ("portrait", "group of 6", "too small to answer")]
    assert counts == [1, 6, 1]


def test_static_site_answers_pictures_in_any_ranges_without_a_network(site_page: Page, portrait: Path, tmp_path: Path):
    """The page's own stage, without a server: nothing is sent, and nothing that needs one is offered."""
    expect(site_page.get_by_text("Nothing leaves this device").first).to_be_visible()
    expect(site_page.locator("#loading progress")).to_have_count(0)
    requests: list[Request] = []
    site_page.on("request", lambda request: requests.append(request))
    site_page.context.set_offline(True)
    choose(site_page, portrait)
    expect(site_page.locator(".hero-age")).to_have_text(re.compile(r"^\d+$"))
    expect(site_page.locator(".annotated rect.box")).to_have_count(1)
    expect(site_page.get_by_text("Saliency map")).to_have_count(0)
    site_page.get_by_text("Probability of each age range").click()
    site_page.get_by_text("Options", exact=True).click()
    site_page.get_by_label("Age ranges").select_option("Type your own")
    site_page.get_by_label("Your ranges").fill("0-116")
    expect(site_page.locator(".bars li")).to_have_count(1)
    site_page.get_by_label("Your ranges").fill("0-17, 20+")
    expect(site_page.locator("#options .problem")).to_contain_text("add 18-19")
    expect(site_page.locator(".bars li")).to_have_count(1)
    site_page.get_by_role("button", name="Share", exact=True).click()
    expect(site_page.get_by_role("img", name="The share card")).to_have_js_property("naturalWidth", 1200)
    site_page.keyboard.press("Escape")
    grey, broken = tmp_path / "grey.png", tmp_path / "text.png"
    Image.new("RGB", (300, 200), "grey").save(grey)
    broken.write_bytes(b"no picture")
    choose(site_page, broken, button="New picture")
    expect(site_page.locator("#picture .notice.problem")).to_contain_text("text.png was not used")
    expect(site_page.locator(".hero-age")).to_be_visible()
    choose(site_page, grey, button="New picture")
    expect(site_page.get_by_role("heading", name="No face found")).to_be_visible()
    site_page.get_by_role("button", name="Treat the whole picture as one face").click()
    expect(site_page.get_by_text("No face was found here.")).to_be_visible()
    site_page.get_by_role("tab", name="Live camera").click()
    start_live(site_page)
    assert [request.url for request in requests if not request.url.startswith(("blob:", "data:"))] == []
