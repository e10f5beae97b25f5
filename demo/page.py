"""The page: four tabs, and which of the handlers answers what is done on them."""

import json
import time
from pathlib import Path

import gradio as gr

from demo.gradio_changes import FACES_SCHEMA, ApiOutput, StrictBlocks
from demo.handlers import BUSY, CHOICES, CHOOSE, DEFAULT_CHOICE, FIND, Answers, ask_for_whole
from demo.rendering import message
from demo.serving import ServedModel, about_markdown
from demo.settings import Settings, duration


# System fonts: the page asks nothing of any other server.
# The colours that Soft draws too pale are darkened: text to a contrast of 4.5 to 1, borders of fields to 3 to 1 (WCAG AA).
THEME = gr.themes.Soft(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"]
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_label_text_color="*primary_700",
    block_label_text_color_dark="white",
    block_title_text_color="*primary_700",
    block_title_text_color_dark="white",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_600",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_padding="0",
    checkbox_border_color="*neutral_500",
    checkbox_border_color_dark="*neutral_400",
    input_border_color="*neutral_500",
    input_border_color_dark="*neutral_400",
    input_border_width="1px",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
    color_accent="*primary_700",
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
)


HERE = Path(__file__).resolve().parent
EXAMPLES = [str(HERE.parent / "examples" / "astronaut.jpg")]
FRAME_SECONDS = 0.3
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
WEBCAM_BUSY = "The webcam is busy with other visitors. Yours starts by itself as soon as a place is free."
NO_CAMERA = (
    "The camera does not start. Allow it in your browser, and close other programs that use it. It works only at an https "
    "address, or on the computer that runs this demo."
)
WEBCAM_OFF = "The webcam is off. It stops by itself after {limit}; you can start it again."
TITLE = "Age and gender, by appearance"
INTRODUCTION = """
<h1>How old does this face look?</h1>
<p>Guesses the age and gender that faces <b>appear</b> to have. A guess about looks, often years off.
<b>Never use it to decide anything about a person</b>: not identity, age checks, hiring, policing or access.</p>
<p class="quiet">Nothing is stored: your picture is deleted within {keep}, its copy with boxes at most {keep} after it was
drawn. Pictures of the live webcam are never written to disk, and answers are not logged.</p>
"""
# Only /predict is part of the API.
PRIVATE = {"api_visibility": "private", "show_progress": "minimal"}
# What needs no model passes by the queue.
AT_ONCE = {"queue": False, "preprocess": False} | PRIVATE


def build_demo(models: list[ServedModel], settings: Settings) -> gr.Blocks:
    answers = Answers(models, settings.max_pictures)
    names = list(answers.models)
    # All predictions but the webcams' share one limit.
    on_model = {"concurrency_id": "model", "concurrency_limit": settings.concurrency, "preprocess": False}

    with StrictBlocks(title=TITLE, analytics_enabled=False) as demo:
        gr.HTML(INTRODUCTION.format(keep=duration(settings.keep_seconds)), elem_id="introduction")
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model")
        with gr.Tabs():
            with gr.Tab("Picture") as picture_tab:
                _picture_tab(answers, settings, model, on_model)
            with gr.Tab("Webcam") as webcam_tab:
                webcam_parts = _webcam_tab(answers, settings, model)
            with gr.Tab("Several") as several_tab:
                _several_tab(answers, settings, model, on_model)
            with gr.Tab("About") as about_tab:
                _about_tab(answers, model, about_tab)
        _turn_cameras_off(picture_tab, webcam_tab, [several_tab, about_tab], webcam_parts)
        demo.load(None, js=NAME_EXAMPLE)  # its thumbnail has no words for those who do not see it
        demo.load(None, js=(HERE / "page.js").read_text(encoding="utf-8"))
        _add_endpoint(answers, on_model)
    return demo


def _picture_tab(answers: Answers, settings: Settings, model: gr.Dropdown, on_model: dict) -> None:
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
            gr.HTML(message(NO_CAMERA, "problem"), elem_id="no-snapshot")  # page.css shows it where it is so
            gr.Examples(
                EXAMPLES,
                picture,
                label="Or try this one: astronaut Eileen Collins (NASA, public domain)",
                elem_id="examples",
            )
            ranges = _ranges_choice("picture-ranges")
            show_looked = gr.Checkbox(label="Show where the model looked", elem_id="show-looked")
        with gr.Column():
            notice = gr.HTML(message(CHOOSE), elem_id="notice")
            again = gr.Button("Try again", elem_id="again")  # page.css shows it after a refusal
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
    # One event for all that needs the model, so that no answer overtakes a later one.
    shown = [drawn, notice, cards, kept, whole]
    answer = gr.on(
        [picture.change, show_looked.change, model.change, ask_again.change],
        answers.show,
        [picture, ranges, show_looked, model, whole_path],
        shown,
        trigger_mode="always_last",
        **PRIVATE,
        **on_model,
    )
    refusal = answer.failure(answers.refused, [kept, picture, model], shown, **AT_ONCE)
    for shown_now in (answer, refusal):
        shown_now.then(None, js=SCROLL_TO_ANSWER)
    in_ranges = [kept, ranges, picture, model]
    answer.then(answers.catch_up, in_ranges, [notice, cards], **AT_ONCE)
    ranges.change(answers.change_ranges, in_ranges, [notice, cards, ask_again], **AT_ONCE)
    whole.click(ask_for_whole, picture, [whole_path, ask_again], **AT_ONCE)
    again.click(lambda: time.monotonic(), None, ask_again, **AT_ONCE)


def _webcam_tab(answers: Answers, settings: Settings, model: gr.Dropdown) -> list[gr.components.Component]:
    """-> the camera, what is shown of it, and what is remembered of it: to be emptied where the tab is left."""
    gr.HTML(
        f"<p>Live, as in a mirror: about {1 / FRAME_SECONDS:.0f} pictures a second are looked at, for up to "
        f"{duration(settings.webcam_seconds)} at a time. Leaving this tab turns the camera off. "
        "For a single snapshot, use the camera button below the picture on the Picture tab.</p>"
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
            ranges = _ranges_choice("webcam-ranges")
            gr.HTML(message(NO_CAMERA, "problem"), elem_id="no-webcam")  # page.css shows it where it is so
            gr.HTML(message(WEBCAM_BUSY), elem_id="webcam-busy")  # page.css shows it to who waits
            live_cards = gr.HTML(elem_id="live-cards")
    tracks = gr.State(time_to_live=settings.keep_seconds)
    stream = webcam.stream(
        answers.show_live,
        [webcam, ranges, tracks, model],
        [overlay, live_cards, tracks],
        stream_every=FRAME_SECONDS,
        preprocess=False,
        time_limit=settings.webcam_seconds,
        concurrency_limit=settings.webcam_viewers,
        api_visibility="private",
        show_progress="hidden",
    )
    # After Stop and after the time limit, at which Gradio would join the queue anew. Also where there was no place, for which
    # it would ask again with every frame: by the browser, so that it is before the next one.
    webcam_parts = [webcam, overlay, live_cards, tracks]
    off = WEBCAM_OFF.format(limit=duration(settings.webcam_seconds))
    ended = stream.then(  # not `success`, which Stop is none
        lambda: (gr.update(visible=False), "", message(off), None), None, webcam_parts, queue=False, **PRIVATE
    )
    hidden_and_told = [{"__type__": "update", "visible": False}, "", message(BUSY, "problem")]
    refused = stream.failure(None, None, webcam_parts[:3], js=f"() => {json.dumps(hidden_and_told)}")
    for hidden in (ended, refused):
        hidden.then(lambda: gr.update(visible=True), None, webcam, queue=False, **PRIVATE)
    return webcam_parts


def _several_tab(answers: Answers, settings: Settings, model: gr.Dropdown, on_model: dict) -> None:
    pictures = gr.File(
        file_count="multiple",
        file_types=["image"],
        label=f"Up to {settings.max_pictures} pictures of up to {settings.max_picture_mb} MB each",
        height=160,
        elem_id="pictures",
    )
    ranges = _ranges_choice("several-ranges")
    start = gr.Button(FIND, variant="primary", elem_id="start")
    gallery = gr.HTML(elem_id="gallery")
    table_notice = gr.HTML(elem_id="table-notice")
    table = gr.HTML(elem_id="table")
    rows = gr.State(time_to_live=settings.keep_seconds)
    shown, in_ranges = [gallery, table_notice, table], [rows, ranges, pictures, model]
    found = start.click(answers.show_several, [pictures, ranges, model], [gallery, table, rows], **PRIVATE, **on_model)
    for event in (ranges.change, found.success):
        event(answers.change_several_ranges, in_ranges, shown, **AT_ONCE)
    found.failure(lambda: message(BUSY, "problem"), None, table_notice, **AT_ONCE)
    # What is shown is not about these. By the browser, so that it cannot come after the answer that is asked for next.
    gr.on([pictures.change, model.change], None, None, shown, js="() => ['', '', '']", **PRIVATE)


def _about_tab(answers: Answers, model: gr.Dropdown, tab: gr.Tab) -> None:
    about = gr.Markdown(elem_id="about")
    gr.on(  # sent when it is asked for: its figures would slow the first screen down
        [tab.select, model.change],
        lambda name: about_markdown(answers.served(name)),
        model,
        about,
        queue=False,
        **PRIVATE,
    )


def _turn_cameras_off(picture_tab: gr.Tab, webcam_tab: gr.Tab, others: list[gr.Tab], webcam_parts: list) -> None:
    """When their tab is left. Taking a component off the page ends the camera's tracks; Gradio's own Stop does not."""
    webcam_tab.select(lambda: (gr.update(visible=True), "", "", None), None, webcam_parts, queue=False, **PRIVATE)
    for tab in (picture_tab, *others):
        tab.select(lambda: (gr.update(visible=False), "", "", None), None, webcam_parts, queue=False, **PRIVATE)
    for tab in (webcam_tab, *others):
        tab.select(None, js=CLOSE_SNAPSHOT_CAMERA)


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
