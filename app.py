"""The demo: pictures and webcam in, apparent age and gender out; a thin page over one pipeline. Run: `python app.py`."""

import argparse
import os
import sys
from pathlib import Path


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported, which asks at once

import gradio as gr

from demo.about import about_markdown
from demo.answering import CHOOSE, Answers
from demo.api import FACES_SCHEMA, ApiOutput
from demo.cards import message
from demo.ranges import CHOICES, DEFAULT_CHOICE
from demo.serving import ModelNotServable, ServedModel, load_served_model
from demo.settings import Settings
from demo.theme import THEME


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
TITLE = "Age and gender, by appearance"
INTRODUCTION = """
<h1>How old does this face look?</h1>
<p>Guesses the age and gender that faces <b>appear</b> to have. A guess about looks, often years off.
<b>Never use it to decide anything about a person</b>: not identity, age checks, hiring, policing or access.</p>
<p class="quiet">Nothing is stored: pictures are deleted within {keep}, webcam pictures are never written to
disk, and answers are not logged.</p>
"""


def build_demo(served: ServedModel, settings: Settings) -> gr.Blocks:
    answers = Answers(served, settings.max_pictures)
    # Gradio looks every `half` seconds for files older than `half` seconds: gone after the whole time at the latest.
    half = settings.keep_seconds / 2
    # All predictions share one limit, and only /predict is part of the API.
    private = {"api_visibility": "private", "show_progress": "minimal"}
    on_model = {"concurrency_id": "model", "concurrency_limit": settings.concurrency, "preprocess": False}

    with gr.Blocks(title=TITLE, delete_cache=(half, half), analytics_enabled=False) as demo:
        gr.HTML(INTRODUCTION.format(keep=settings.keep_text), elem_id="introduction")
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
                            EXAMPLES, picture, label="Or try this one: astronaut Eileen Collins (NASA, public domain)"
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
                faces = gr.State(time_to_live=settings.keep_seconds)
                asked, shown = [picture, picture_ranges, show_looked], [drawn, notice, cards, faces, whole]
                picture.change(answers.show, asked, shown, **private, **on_model).then(None, js=SCROLL_TO_ANSWER)
                show_looked.change(answers.show, asked, shown, **private, **on_model)
                whole.click(answers.show_whole, asked, shown, **private, **on_model)
                picture_ranges.change(
                    answers.change_ranges, [faces, picture_ranges], [notice, cards], queue=False, **private
                )

            with gr.Tab("Webcam") as webcam_tab:
                gr.HTML(
                    f"<p>Live, as in a mirror: about {1 / FRAME_SECONDS:.0f} pictures a second are looked at, for up to "
                    f"{settings.webcam_seconds} seconds at a time. Leaving this tab turns the camera off.</p>"
                )
                with gr.Row():
                    with gr.Column(elem_id="mirror"):
                        webcam = gr.Image(
                            sources=["webcam"],
                            streaming=True,
                            type="numpy",
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
                        live_cards = gr.HTML(elem_id="live-cards")
                tracks = gr.State(time_to_live=settings.keep_seconds)
                webcam.stream(
                    answers.show_live,
                    [webcam, webcam_ranges, tracks],
                    [overlay, live_cards, tracks],
                    stream_every=FRAME_SECONDS,
                    time_limit=settings.webcam_seconds,
                    concurrency_limit=settings.webcam_viewers,
                    api_visibility="private",
                    show_progress="hidden",
                )

            with gr.Tab("Several") as several_tab:
                pictures = gr.File(
                    file_count="multiple",
                    file_types=["image"],
                    label=f"Up to {settings.max_pictures} pictures",
                    height=160,
                    elem_id="pictures",
                )
                several_ranges = _ranges_choice("several-ranges")
                start = gr.Button("Find the faces", variant="primary", elem_id="start")
                gallery = gr.HTML(elem_id="gallery")
                table = gr.HTML(elem_id="table")
                start.click(answers.show_several, [pictures, several_ranges], [gallery, table], **private, **on_model)

            with gr.Tab("About") as about_tab:
                about = gr.Markdown(elem_id="about")
                # Sent when it is asked for: its figures would slow the first screen down.
                about_tab.select(lambda: about_markdown(served), None, about, queue=False, **private)

        # Leaving a tab turns its camera off. Taking the component off the page ends the camera's tracks; Gradio's own Stop
        # only stops sending.
        webcam_parts = [webcam, overlay, live_cards, tracks]
        webcam_tab.select(lambda: (gr.update(visible=True), "", "", None), None, webcam_parts, queue=False, **private)
        for tab in (picture_tab, several_tab, about_tab):
            tab.select(lambda: (gr.update(visible=False), "", "", None), None, webcam_parts, queue=False, **private)

        for tab in (webcam_tab, several_tab, about_tab):
            tab.select(None, js=CLOSE_SNAPSHOT_CAMERA)
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
    )


def _add_endpoint(answers: Answers, on_model: dict) -> None:
    """POST /gradio_api/call/predict, `gradio_client`'s api_name="/predict" and, with GRADIO_MCP_SERVER=True, an MCP tool."""
    api_picture = gr.Image(type="filepath", visible=False, label="picture")
    api_detect = gr.Checkbox(True, visible=False, label="detect")
    api_ranges = gr.Textbox(DEFAULT_CHOICE, visible=False, label="age_ranges")
    gr.Button(visible=False).click(
        answers.predict,
        [api_picture, api_detect, api_ranges],
        ApiOutput(None, FACES_SCHEMA, "faces"),
        api_name="predict",
        **on_model,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=Settings.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        settings = Settings.from_environment()
        served = load_served_model(settings.model_id, settings.model_revision)
    except (ModelNotServable, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    build_demo(served, settings).queue(max_size=settings.queue_size).launch(
        theme=THEME,
        css_paths=HERE / "demo" / "page.css",
        max_file_size=f"{settings.max_picture_mb}mb",
        auth=settings.auth,
        run_history=False,
        state_session_capacity=SESSIONS,
        i18n=gr.I18n(en={"audio.record": "Start"}),  # the webcam's button says "Record", but nothing is recorded
        footer_links=["api", "settings"],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
