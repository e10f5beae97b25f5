"""The demo: pictures and webcam in, apparent age and gender out; a thin page over one pipeline. Run: `python app.py`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from demo.limits import SPACE_PROXIES, Door, say_busy
from demo.uploads import cleaned_up, own_folder


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported, which asks at once
# Else it keeps a list of who asked when, and makes a table of its 10,000 rows after every request.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
os.environ["GRADIO_TEMP_DIR"] = str(own_folder())
if "SPACE_ID" in os.environ:
    os.environ.setdefault("FORWARDED_ALLOW_IPS", SPACE_PROXIES)

import gradio as gr
import pillow_heif  # noqa: F401 - image_loading can do without it, a demo cannot: iPhones' pictures
from starlette.middleware import Middleware

from demo.gradio_changes import FairQueue, JsonMCPServer
from demo.page import THEME, build_demo
from demo.serving import ModelNotServable, find_model
from demo.settings import Settings, keep_few_heaps


HERE = Path(__file__).resolve().parent
SESSIONS = 500  # whose last answer is remembered; every API call counts as one, so this bounds the memory
WORDS = {  # in place of Gradio's own, for browsers set to English
    "audio.record": "Start",  # the webcam's button says "Record", but nothing is recorded
    "upload_text.drop_image": "Drop a picture here",
    "upload_text.drop_file": "Drop pictures here",
    "upload_text.click_to_upload": "Click to choose",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=Settings.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    keep_few_heaps()  # before anything starts a thread
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    try:
        settings = Settings.from_environment()
        models = [find_model(choice) for choice in settings.models]
        _ = models[0].pipeline  # read now, so that the first visitor need not wait
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (ModelNotServable, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    picture_bytes = settings.max_picture_mb * 1_000_000
    limits = {
        "requests_per_minute": settings.requests_per_minute,
        "upload_bytes": settings.max_pictures * picture_bytes + 1_000_000,
        "other_bytes": 2 * picture_bytes,  # a picture as base64 in JSON, and room to spare
    }
    # Gradio asks for its classes by these names and lets nobody pass others.
    gr.mcp.GradioMCPServer, gr.queueing.Queue = JsonMCPServer, FairQueue
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that what follows cleans up
    page = build_demo(models, settings)
    with cleaned_up(folder, settings.keep_seconds, page.temp_file_sets):
        # api_open would let a POST to /gradio_api/run/predict pass by the queue.
        page.queue(max_size=settings.queue_size, api_open=False).launch(
            app_kwargs={"middleware": [Middleware(Door, **limits)], "exception_handlers": {503: say_busy}},
            theme=THEME,
            css_paths=HERE / "demo" / "page.css",
            max_file_size=f"{settings.max_picture_mb}mb",
            auth=settings.auth,
            run_history=False,
            state_session_capacity=SESSIONS,
            i18n=gr.I18n(en=WORDS),
            footer_links=["api"],
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
