"""What runs the network in a browser: WebGPU where it answers the same in less time, else WebAssembly. In a real Chromium whose
WebGPU is computed on the processor.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from scripts.benchmarks.device_parity import LOAD
from scripts.benchmarks.visiting import NoBrowser, launch_chromium


pytestmark = pytest.mark.slow
# As if there were a graphics processor.
CLAIM = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', {get: () => false})"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            browser = launch_chromium(playwright, with_webgpu=True)
        except NoBrowser as error:
            pytest.skip(str(error))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(f"{site}/manifest.json")  # the page itself would load the model, too
    if not page.evaluate("'Suspending' in WebAssembly && navigator.gpu?.requestAdapter().then(Boolean)"):
        pytest.skip("This Chromium has no WebGPU, or no JavaScript Promise Integration.")
    yield page
    page.close()


def test_webgpu_that_is_computed_on_the_processor_is_not_used(page: Page):
    runtimes: list[str] = []
    page.on("request", lambda request: runtimes.append(request.url) if request.url.endswith(".wasm") else None)
    assert page.evaluate(LOAD, None) == "wasm"
    assert ["jspi" in url for url in runtimes] == [False]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("", id="slower"),
        pytest.param("navigator.gpu.requestAdapter = async () => null", id="no adapter in workers"),
        pytest.param("GPUAdapter.prototype.requestDevice = async () => { throw new Error('lost') }", id="no device"),
        pytest.param("GPUDevice.prototype.createBuffer = () => { throw new RangeError('no memory') }", id="no memory"),
        pytest.param("GPUBuffer.prototype.mapAsync = () => new Promise(() => {})", id="never ready"),
        pytest.param(
            "const read = GPUBuffer.prototype.getMappedRange\n"
            "GPUBuffer.prototype.getMappedRange = function (...part) {\n"
            "  const bytes = read.apply(this, part)\n"
            "  if (this.usage & GPUBufferUsage.MAP_READ) new Uint8Array(bytes).fill(1)\n"
            "  return bytes\n"
            "}",
            id="wrong outputs",
        ),
    ],
)
def test_webgpu_that_fails_errs_or_is_slower_is_not_used(page: Page, fault: str):
    def break_worker(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=f"{answer.text()}\n{fault}")

    page.route("**/device/worker.js", break_worker)
    page.evaluate(CLAIM)
    assert page.evaluate(LOAD, None) == "wasm"
    answer = "fetch('examples/astronaut.jpg').then(got => got.blob()).then(blob => device.predict(blob))"
    assert page.evaluate(f"{answer}.then(({{faces}}) => faces.length)") == 1


def test_webgpu_computes_the_same_and_hands_over_when_it_is_lost(page: Page):
    """As after a driver's fault, or when a phone takes its memory back: WebAssembly goes on, with the same outputs."""
    engine = page.evaluate("""async () => {
      const {Runtime} = await import(new URL('device/networks.js', location.href))
      const {files, config} = await (await fetch('manifest.json')).json()
      const read = async role => new Uint8Array(await (await fetch(files[role].url)).arrayBuffer())
      window.runtime = await Runtime.start('webgpu', await read('runtime_webgpu'))
      window.shape = [1, 3, config.image_size, config.image_size]
      window.values = Float32Array.from({length: 3 * config.image_size ** 2}, (_, index) => Math.sin(index))
      window.network = await runtime.openFastest(await read('model'), values, shape, true)
      return network.engine
    }""")
    assert engine == "webgpu"
    run = "network.run(values, shape).then(outputs => Array.from(outputs.age_logits.data))"
    before = page.evaluate(run)
    page.evaluate("Promise.resolve(runtime.runtime.env.webgpu.device).then(device => device.destroy())")
    after = page.evaluate(run)
    assert page.evaluate("network.engine") == "wasm"
    assert after == pytest.approx(before, abs=0.01)
