"""The page: four tabs, and which of the handlers answers what is done on them."""

import json
import time
from pathlib import Path
from typing import Any

import gradio as gr

from demo import texts
from demo.api import add_endpoint
from demo.gradio_changes import StrictBlocks
from demo.handlers import DEFAULT_RANGES, Handlers, ask_for_whole
from demo.live import live_camera, show_on_server
from demo.rendering import message
from demo.serving import ServedModel, about_markdown
from demo.settings import Settings
from demo.texts import duration
from model.configuration_age_gender import RANGE_SETS


HERE = Path(__file__).resolve().parent
CSS_FILE, JS_FILE = HERE / "web" / "page.css", HERE / "web" / "page.js"
EXAMPLES = [str(HERE.parent / "examples" / "astronaut.jpg")]
FRAME_SECONDS = 0.3  # between two frames of a live webcam
# System fonts, so that the page makes no request to other servers. The colours that Soft draws too pale are darkened: text
# to a contrast of 4.5 to 1, borders of fields to 3 to 1 (WCAG 2.2 AA).
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
SCROLL_TO_ANSWER = """() => {
  const notice = document.querySelector('#notice')
  if (document.querySelector('#picture img') && notice.getBoundingClientRect().top > 0.8 * window.innerHeight)
    notice.scrollIntoView({behavior: 'smooth'})
}"""
CLOSE_SNAPSHOT_CAMERA = """() => {
  if (document.querySelector('#picture video')) document.querySelector('#picture [aria-label="Upload file"]').click()
}"""
# The example's thumbnail has no accessible name of its own.
NAME_EXAMPLE = f"""() => document.querySelectorAll('#examples button').forEach(
  button => button.setAttribute('aria-label', {json.dumps(texts.USE_EXAMPLE)}))"""

# Options of events. Only /predict is part of the API.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
UNQUEUED: dict[str, Any] = {"queue": False, "preprocess": False} | PRIVATE  # events that need no model


def build_demo(models: list[ServedModel], settings: Settings) -> gr.Blocks:
    handlers = Handlers(models, settings.max_pictures)
    names = list(handlers.models)
    # All predictions share one limit, except those of webcams.
    on_model: dict[str, Any] = {
        "concurrency_id": "model",
        "concurrency_limit": settings.concurrency,
        "preprocess": False,
    }

    with StrictBlocks(title=texts.TITLE, analytics_enabled=False) as demo:
        gr.HTML(texts.INTRODUCTION.format(keep=duration(settings.keep_seconds)), elem_id="introduction")
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, elem_id="model")
        with gr.Tabs():
            with gr.Tab("Picture") as picture_tab:
                _picture_tab(handlers, settings, model, on_model)
            with gr.Tab("Webcam") as webcam_tab:
                webcam_parts = _webcam_tab(handlers, settings, model)
            with gr.Tab("Several") as several_tab:
                _several_tab(handlers, settings, model, on_model)
            with gr.Tab("About") as about_tab:
                _about_tab(handlers, model, about_tab)
        _turn_cameras_off(picture_tab, webcam_tab, [several_tab, about_tab], webcam_parts)
        demo.load(None, js=NAME_EXAMPLE)
        demo.load(None, js=JS_FILE.read_text(encoding="utf-8"))
        add_endpoint(handlers, on_model)
    return demo


def _picture_tab(handlers: Handlers, settings: Settings, model: gr.Dropdown, on_model: dict[str, Any]) -> None:
    with gr.Row():
        with gr.Column():
            picture = gr.Image(
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                label=texts.PICTURE.format(megabytes=settings.max_picture_mb),
                alt_text=texts.PICTURE_ALT,
                height=270,
                elem_id="picture",
            )
            gr.HTML(message(texts.NO_CAMERA, "problem"), elem_id="no-snapshot")  # page.css shows it when needed
            gr.Examples(EXAMPLES, picture, label=texts.EXAMPLES, elem_id="examples")
            ranges = _ranges_choice("picture-ranges")
            show_saliency = gr.Checkbox(label=texts.SALIENCY, info=texts.SALIENCY_HELP, elem_id="show-saliency")
        with gr.Column():
            notice = gr.HTML(message(texts.CHOOSE), elem_id="notice")
            again = gr.Button(texts.TRY_AGAIN, elem_id="again")  # page.css shows it after a refusal
            whole = gr.Button(texts.WHOLE_PICTURE, visible=False, elem_id="whole")
            drawn = gr.Image(
                show_label=False,
                format="jpeg",
                interactive=False,
                visible=False,
                buttons=["download", "fullscreen"],
                elem_id="drawn",
            )
            cards = gr.HTML(elem_id="cards")
    state = gr.State(time_to_live=settings.keep_seconds)
    # Textboxes, because a State that an unqueued event changes triggers no event.
    whole_path, ask_again = (gr.Textbox(visible="hidden") for _ in range(2))
    shown = [drawn, notice, cards, state, whole]
    # One event for all that needs the model, so that no earlier answer replaces a later one.
    answer = gr.on(
        [picture.change, show_saliency.change, model.change, ask_again.change],
        handlers.show,
        [picture, ranges, show_saliency, model, whole_path],
        shown,
        trigger_mode="always_last",
        **PRIVATE,
        **on_model,
    )
    refusal = answer.failure(handlers.refused, [state, picture, model], shown, **UNQUEUED)
    for event in (answer, refusal):
        event.then(None, js=SCROLL_TO_ANSWER)
    in_ranges = [state, ranges, picture, model]
    answer.then(handlers.catch_up, in_ranges, [notice, cards], **UNQUEUED)
    ranges.change(handlers.change_ranges, in_ranges, [notice, cards, ask_again], **UNQUEUED)
    whole.click(ask_for_whole, picture, [whole_path, ask_again], **UNQUEUED)
    again.click(lambda: time.monotonic(), None, ask_again, **UNQUEUED)


def _webcam_tab(handlers: Handlers, settings: Settings, model: gr.Dropdown) -> list[gr.components.Component]:
    """-> the camera, what is shown of it, and its state: all to be emptied when the visitor leaves the tab."""
    live = live_camera(list(handlers.models.values()))
    on_server = gr.Column(visible=False)
    with on_server:
        gr.HTML(
            f"<p>{texts.WEBCAM.format(frames_per_second=1 / FRAME_SECONDS, limit=duration(settings.webcam_seconds))}</p>"
        )
    with on_server, gr.Row():
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
            gr.HTML(message(texts.NO_CAMERA, "problem"), elem_id="no-webcam")  # page.css shows it when needed
            gr.HTML(message(texts.WEBCAM_BUSY), elem_id="webcam-busy")  # page.css shows it while waiting
            live_cards = gr.HTML(elem_id="live-cards")
    show_on_server(live, [on_server, webcam])
    tracks = gr.State(time_to_live=settings.keep_seconds)
    stream = webcam.stream(
        handlers.show_live,
        [webcam, ranges, tracks, model],
        [overlay, live_cards, tracks],
        stream_every=FRAME_SECONDS,
        preprocess=False,
        time_limit=settings.webcam_seconds,
        concurrency_limit=settings.webcam_viewers,
        api_visibility="private",
        show_progress="hidden",
    )
    # The camera is taken off the page after Stop, after the time limit (Gradio would join the queue again:
    # https://github.com/gradio-app/gradio/pull/9173) and after a refusal (Gradio would ask again with every frame). The browser
    # does the last one itself, so that it happens before the next frame.
    webcam_parts = [webcam, overlay, live_cards, tracks]
    off = texts.WEBCAM_OFF.format(limit=duration(settings.webcam_seconds))
    ended = stream.then(  # not `success`: Stop is not one
        lambda: (gr.update(visible=False), "", message(off), None), None, webcam_parts, queue=False, **PRIVATE
    )
    hide_and_tell = [{"__type__": "update", "visible": False}, "", message(texts.BUSY, "problem")]
    refused = stream.failure(None, None, webcam_parts[:3], js=f"() => {json.dumps(hide_and_tell)}")
    for hidden in (ended, refused):
        hidden.then(lambda: gr.update(visible=True), None, webcam, queue=False, **PRIVATE)
    return webcam_parts


def _several_tab(handlers: Handlers, settings: Settings, model: gr.Dropdown, on_model: dict[str, Any]) -> None:
    pictures = gr.File(
        file_count="multiple",
        file_types=["image"],
        label=texts.SEVERAL.format(pictures=settings.max_pictures, megabytes=settings.max_picture_mb),
        height=160,
        elem_id="pictures",
    )
    ranges = _ranges_choice("several-ranges")
    start = gr.Button(texts.FIND, variant="primary", elem_id="start")
    gallery = gr.HTML(elem_id="gallery")
    table_notice = gr.HTML(elem_id="table-notice")
    table = gr.HTML(elem_id="table")
    state = gr.State(time_to_live=settings.keep_seconds)
    shown, in_ranges = [gallery, table_notice, table], [state, ranges, pictures, model]
    found = start.click(
        handlers.show_several, [pictures, ranges, model], [gallery, table, state], **PRIVATE, **on_model
    )
    for event in (ranges.change, found.success):
        event(handlers.change_several_ranges, in_ranges, shown, **UNQUEUED)
    found.failure(lambda: message(texts.BUSY, "problem"), None, table_notice, **UNQUEUED)
    # Clear answers to other pictures. The browser does it, so that it cannot come after the answer that is asked for next.
    gr.on([pictures.change, model.change], None, None, shown, js="() => ['', '', '']", **PRIVATE)


def _about_tab(handlers: Handlers, model: gr.Dropdown, tab: gr.Tab) -> None:
    about = gr.Markdown(elem_id="about")
    gr.on(  # sent when the tab is opened: the figures of the card would slow down the first screen
        [tab.select, model.change],
        lambda name: about_markdown(handlers.served(name)),
        model,
        about,
        queue=False,
        **PRIVATE,
    )


def _turn_cameras_off(picture_tab: gr.Tab, webcam_tab: gr.Tab, others: list[gr.Tab], webcam_parts: list) -> None:
    """When the visitor leaves their tab. Only hiding the component ends the camera's tracks; Gradio's Stop does not."""
    webcam_tab.select(lambda: (gr.update(visible=True), "", "", None), None, webcam_parts, queue=False, **PRIVATE)
    for tab in (picture_tab, *others):
        tab.select(lambda: (gr.update(visible=False), "", "", None), None, webcam_parts, queue=False, **PRIVATE)
    for tab in (webcam_tab, *others):
        tab.select(None, js=CLOSE_SNAPSHOT_CAMERA)


def _ranges_choice(elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(
        [(f"{name}: {ranges}", name) for name, ranges in RANGE_SETS.items()],
        value=DEFAULT_RANGES,
        allow_custom_value=True,
        label=texts.AGE_RANGES,
        info=texts.AGE_RANGES_HELP,
        elem_id=elem_id,
        elem_classes="choice",
    )
