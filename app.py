"""The demo: pictures and webcam in, apparent age and gender out; a thin page over one pipeline. Run: `python app.py`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from demo.cleaning_up import cleaned_up, own_folder
from demo.door import SPACE_PROXIES, Door


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

from demo.about import about_markdown
from demo.answering import CHOOSE, FIND, Answers, ask_for_whole
from demo.api import FACES_SCHEMA, ApiOutput
from demo.cards import message
from demo.memory import keep_few_heaps
from demo.ranges import CHOICES, DEFAULT_CHOICE
from demo.serving import ModelNotServable, ServedModel, find_model
from demo.settings import Settings, duration
from demo.strict_blocks import StrictBlocks
from demo.theme import THEME
from demo.tool import JsonMCPServer


HERE = Path(__file__).resolve().parent
EXAMPLES = [str(HERE / "examples" / "astronaut.jpg")]
FRAME_SECONDS = 0.3
SESSIONS = 500  # whose last answer is remembered; every API call counts as one, so this bounds the memory
SCROLL_TO_ANSWER = """() => {
  const notice = document.querySelector('#notice')
  if (document.querySelector('#picture img') && notice.getBoundingClientRect().top > 0.8 * window.innerHeight)
    notice.scrollIntoView({behavior: 'smooth'})
}"""
CLOSE_SNAPSHOT_CAMERA = """() => {
  if (document.querySelector('#picture video')) document.querySelector('#picture [aria-label="Upload file"]').click()
}"""
NAME_EXAMPLE = """() => document.querySelectorAll('#examples button').forEach(
  button => button.setAttribute('aria-label', 'Use the picture of astronaut Eileen Collins'))"""
WORDS = {  # in place of Gradio's own, for browsers set to English
    "audio.record": "Start",  # the webcam's button says "Record", but nothing is recorded
    "upload_text.drop_image": "Drop a picture here",
    "upload_text.drop_file": "Drop pictures here",
    "upload_text.click_to_upload": "Click to choose",
}
WEBCAM_BUSY = "The webcam is busy with other visitors. Yours starts by itself as soon as a place is free."
WEBCAM_OFF = "The webcam is off. It stops by itself after {limit}; you can start it again."
TITLE = "Age and gender, by appearance"
INTRODUCTION = """
<h1>How old does this face look?</h1>
<p>Guesses the age and gender that faces <b>appear</b> to have. A guess about looks, often years off.
<b>Never use it to decide anything about a person</b>: not identity, age checks, hiring, policing or access.</p>
<p class="quiet">Nothing is stored: pictures are deleted within {keep}, those of the live webcam are never
written to disk, and answers are not logged.</p>
"""


def build_demo(models: list[ServedModel], settings: Settings) -> gr.Blocks:
    answers = Answers(models, settings.max_pictures)
    names = list(answers.models)
    # All predictions but the webcams' share one limit, and only /predict is part of the API.
    private = {"api_visibility": "private", "show_progress": "minimal"}
    on_model = {"concurrency_id": "model", "concurrency_limit": settings.concurrency, "preprocess": False}

    with StrictBlocks(title=TITLE, analytics_enabled=False) as demo:
        gr.HTML(INTRODUCTION.format(keep=duration(settings.keep_seconds)), elem_id="introduction")
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model")
        with gr.Tabs():
            with gr.Tab("Picture") as picture_tab:
                with gr.Row():
                    with gr.Column():
                        picture = gr.Image(
                            type="filepath",
                            sources=["upload", "clipboard", "webcam"],
                            label=f"Your picture (up to {settings.max_picture_mb} MB)",
                            alt_text="The picture you chose",
                            height=270,
                            elem_id="picture",
                        )
                        gr.Examples(
                            EXAMPLES,
                            picture,
                            label="Or try this one: astronaut Eileen Collins (NASA, public domain)",
                            elem_id="examples",
                        )
                        picture_ranges = _ranges_choice("picture-ranges")
                        show_looked = gr.Checkbox(label="Show where the model looked", elem_id="show-looked")
                    with gr.Column():
                        notice = gr.HTML(message(CHOOSE), elem_id="notice")
                        whole = gr.Button("Treat the whole picture as one face", visible=False, elem_id="whole")
                        drawn = gr.Image(
                            show_label=False,
                            format="jpeg",
                            interactive=False,
                            visible=False,
                            buttons=["download", "fullscreen"],
                            elem_id="drawn",
                        )
                        cards = gr.HTML(elem_id="cards")
                kept = gr.State(time_to_live=settings.keep_seconds)
                # On the page, because a State changed by an event without the queue triggers nothing.
                whole_path, ask_again = (gr.Textbox(visible="hidden") for _ in range(2))
                at_once = {"queue": False, "preprocess": False} | private
                # One event for all that needs the model, so that no answer overtakes a later one.
                answer = gr.on(
                    [picture.change, show_looked.change, model.change, ask_again.change],
                    answers.show,
                    [picture, picture_ranges, show_looked, model, whole_path],
                    [drawn, notice, cards, kept, whole],
                    trigger_mode="always_last",
                    **private,
                    **on_model,
                )
                answer.then(None, js=SCROLL_TO_ANSWER)
                in_ranges = [kept, picture_ranges, picture, model]
                answer.then(answers.catch_up, in_ranges, [notice, cards], **at_once)
                picture_ranges.change(answers.change_ranges, in_ranges, [notice, cards, ask_again], **at_once)
                whole.click(ask_for_whole, picture, [whole_path, ask_again], **at_once)

            with gr.Tab("Webcam") as webcam_tab:
                gr.HTML(
                    f"<p>Live, as in a mirror: about {1 / FRAME_SECONDS:.0f} pictures a second are looked at, for up to "
                    f"{duration(settings.webcam_seconds)} at a time. Leaving this tab turns the camera off.</p>"
                )
                with gr.Row():
                    with gr.Column(elem_id="mirror"):
                        webcam = gr.Image(
                            sources=["webcam"],
                            streaming=True,
                            show_label=False,
                            visible=False,
                            height=420,
                            elem_id="webcam",
                            webcam_options=gr.WebcamOptions(
                                mirror=True,
                                constraints={"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}},
                            ),
                        )
                        overlay = gr.HTML(elem_id="overlay")
                    with gr.Column():
                        webcam_ranges = _ranges_choice("webcam-ranges")
                        gr.HTML(message(WEBCAM_BUSY), elem_id="webcam-busy")  # page.css shows it to who waits
                        live_cards = gr.HTML(elem_id="live-cards")
                tracks = gr.State(time_to_live=settings.keep_seconds)
                stream = webcam.stream(
                    answers.show_live,
                    [webcam, webcam_ranges, tracks, model],
                    [overlay, live_cards, tracks],
                    stream_every=FRAME_SECONDS,
                    preprocess=False,
                    time_limit=settings.webcam_seconds,
                    concurrency_limit=settings.webcam_viewers,
                    api_visibility="private",
                    show_progress="hidden",
                )
                # After Stop and after the time limit, at which Gradio would join the queue anew.
                webcam_parts = [webcam, overlay, live_cards, tracks]
                off = WEBCAM_OFF.format(limit=duration(settings.webcam_seconds))
                stream.then(  # not `success`, which Stop is none
                    lambda: (gr.update(visible=False), "", message(off), None),
                    None,
                    webcam_parts,
                    queue=False,
                    **private,
                ).then(lambda: gr.update(visible=True), None, webcam, queue=False, **private)

            with gr.Tab("Several") as several_tab:
                pictures = gr.File(
                    file_count="multiple",
                    file_types=["image"],
                    label=f"Up to {settings.max_pictures} pictures of up to {settings.max_picture_mb} MB each",
                    height=160,
                    elem_id="pictures",
                )
                several_ranges = _ranges_choice("several-ranges")
                start = gr.Button(FIND, variant="primary", elem_id="start")
                gallery = gr.HTML(elem_id="gallery")
                table_notice = gr.HTML(elem_id="table-notice")
                table = gr.HTML(elem_id="table")
                rows = gr.State(time_to_live=settings.keep_seconds)
                several, in_ranges = [pictures, several_ranges, model], [rows, several_ranges, pictures, model]
                found = start.click(answers.show_several, several, [gallery, table, rows], **private, **on_model)
                for event in (several_ranges.change, found.success):
                    event(answers.change_several_ranges, in_ranges, [table_notice, table], **at_once)
                # What is shown came from another model.
                shown = [gallery, table_notice, table, rows]
                model.change(lambda: ("", "", "", None), None, shown, queue=False, **private)

            with gr.Tab("About") as about_tab:
                about = gr.Markdown(elem_id="about")
                # Sent when it is asked for: its figures would slow the first screen down.
                gr.on(
                    [about_tab.select, model.change],
                    lambda name: about_markdown(answers.served(name)),
                    model,
                    about,
                    queue=False,
                    **private,
                )

        # Leaving a tab turns its camera off. Taking the component off the page ends the camera's tracks; Gradio's own Stop
        # only stops sending.
        webcam_tab.select(lambda: (gr.update(visible=True), "", "", None), None, webcam_parts, queue=False, **private)
        for tab in (picture_tab, several_tab, about_tab):
            tab.select(lambda: (gr.update(visible=False), "", "", None), None, webcam_parts, queue=False, **private)

        for tab in (webcam_tab, several_tab, about_tab):
            tab.select(None, js=CLOSE_SNAPSHOT_CAMERA)
        demo.load(None, js=NAME_EXAMPLE)  # its thumbnail has no words for those who do not see it
        _add_endpoint(answers, on_model)
    return demo


def _ranges_choice(elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(
        CHOICES,
        value=DEFAULT_CHOICE,
        allow_custom_value=True,
        label="Age ranges",
        info="Choose a set, or type your own such as 0-17, 18-39, 40+ and press Enter",
        elem_id=elem_id,
        elem_classes="choice",
    )


def _add_endpoint(answers: Answers, on_model: dict) -> None:
    """POST /gradio_api/call/predict, `gradio_client`'s api_name="/predict" and, with GRADIO_MCP_SERVER=True, an MCP tool."""
    api_picture = gr.Image(type="filepath", visible=False, label="picture")
    api_detect = gr.Checkbox(True, visible=False, label="detect")
    api_ranges = gr.Textbox(DEFAULT_CHOICE, visible=False, label="age_ranges")
    names = list(answers.models)
    api_model = gr.Dropdown(names, value=names[0], visible=False, label="model")
    gr.Button(visible=False).click(
        answers.predict,
        [api_picture, api_detect, api_ranges] + [api_model] * (len(names) > 1),
        ApiOutput(None, FACES_SCHEMA, "faces"),
        api_name="predict",
        **on_model,
    )


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
    gr.mcp.GradioMCPServer = JsonMCPServer  # Gradio asks for its class by this name and lets nobody pass another
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that what follows cleans up
    page = build_demo(models, settings)
    with cleaned_up(folder, settings.keep_seconds, page.temp_file_sets):
        # api_open would let a POST to /gradio_api/run/predict pass by the queue.
        page.queue(max_size=settings.queue_size, api_open=False).launch(
            app_kwargs={"middleware": [Middleware(Door, **limits)]},
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
