"""The page: its words and its look, three tabs, whose contents the JavaScript in web/ draws, and which of the handlers answers
what is done there.

The words are one table, web/texts.json, for Gradio's components and the JavaScript. Gradio's own parts get the same neutral
surfaces and one accent as web/style/base.css gives the rest of the page.
"""

import json
from typing import Any

import gradio as gr

from demo.about import about, compared
from demo.api import add_endpoint, refusal
from demo.device_camera import HIDE, live_camera, show_on_server
from demo.device_files import WEB, page_style
from demo.gradio_changes import StrictBlocks
from demo.handlers import Handlers
from demo.settings import DEFAULT_RANGES, Settings
from model.configuration_age_gender import RANGE_SETS
from model.errors import AgeGenderError


TITLE = "How old does this face look?"
DESCRIPTION = "Choose a photo: every face in it gets an age and a gender, guessed from looks."
TEXTS: dict[str, dict[str, str]] = json.loads((WEB / "texts.json").read_text(encoding="utf-8"))
# By the browser's language; English where the table lacks it.
I18N = gr.I18n(**TEXTS)

# System fonts, so that the page makes no request to other servers. Text has a contrast of 4.5 to 1 at least, borders of
# fields 3 to 1 (WCAG 2.2 AA).
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="stone",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color="*neutral_900",
    body_text_color_dark="*neutral_100",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    background_fill_primary_dark="*neutral_900",
    background_fill_secondary_dark="*neutral_800",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    block_border_width="1px",
    border_color_primary="*neutral_200",
    border_color_primary_dark="*neutral_700",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    button_primary_text_color="white",
    button_primary_text_color_dark="white",
    input_border_color="*neutral_500",
    input_border_color_dark="*neutral_400",
    input_border_width="1px",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
    color_accent="*primary_700",
)

CSS_FILE = WEB / "gradio.css"
FRAME_SECONDS = 0.3  # between two frames of a live webcam
# Each part of the page is one function of web/page.js.
JS_ON_LOAD = (
    "import(new URL('web/page.js', document.baseURI)).then(page => page.{part}(element, props, watch, trigger))"
)
# Options of events. Only /predict is part of the API.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def build_demo(handlers: Handlers, settings: Settings) -> gr.Blocks:
    # Programs' predictions share one queue.
    on_model: dict[str, Any] = {
        "concurrency_id": "model",
        "concurrency_limit": settings.concurrency,
        "preprocess": False,
    }
    with StrictBlocks(title=TITLE, analytics_enabled=False, fill_width=True) as demo:
        _part("header")
        # Its value is the name of the model that the visitor has chosen, for all tabs.
        options = _part("choices", "options", value=next(iter(handlers.models)), render=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab(I18N("tab_pictures"), id="pictures") as pictures_tab:
                _part(
                    "stage",
                    models=compared(list(handlers.models.values())),
                    max_pictures=settings.max_pictures,
                    max_picture_mb=settings.max_picture_mb,
                    range_sets=RANGE_SETS,
                    default_ranges=DEFAULT_RANGES,
                    max_age=handlers.served(None).pipeline.model.config.max_age,
                )
            with gr.Tab(I18N("tab_camera"), id="camera") as camera_tab:
                webcam_parts = _camera_tab(handlers, settings, options)
            with gr.Tab(I18N("tab_about"), id="about") as about_tab:
                _about_tab(handlers, about_tab, options)
        options.render()
        _part("footer", keep_seconds=settings.keep_seconds)
        _turn_camera_off(camera_tab, [pictures_tab, about_tab], webcam_parts)
        add_endpoint(handlers, on_model)
    return demo


def head() -> str:
    """What stands in the page's head, as a Jinja template: its style (here, and not by a request for each file), its modules,
    and its link preview.
    """
    root = "{{ config.get('root', '') }}"
    preview = {
        "og:type": "website",
        "og:url": root,
        "og:title": TITLE,
        "og:description": DESCRIPTION,
        "og:image": f"{root}/web/preview.jpg",
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "A portrait with a box around the face, and the age that it looks",
    }
    tags = "".join(f'<meta property="{name}" content="{value}">' for name, value in preview.items())
    modules = "".join(f'<link rel="modulepreload" href="web/{path.name}">' for path in sorted(WEB.glob("*.js")))
    return (
        f'<meta name="description" content="{DESCRIPTION}">{tags}<meta name="twitter:card" content="summary_large_image">'
        f"<style>{{% raw %}}{page_style()}{{% endraw %}}</style>{modules}"
    )


def _part(part: str, elem_id: str | None = None, **props: Any) -> gr.HTML:
    """A part of the page that web/page.js draws, by its function of this name."""
    return gr.HTML(
        html_template=f'<div class="part" data-part="{part}"></div>',
        js_on_load=JS_ON_LOAD.format(part=part),
        apply_default_css=False,
        elem_id=elem_id or part,
        **props,
    )


def _camera_tab(handlers: Handlers, settings: Settings, options: gr.HTML) -> list[gr.components.Component]:
    """-> the camera, what is shown of it, and its state: all to be emptied when the visitor leaves the tab."""
    on_device = live_camera(list(handlers.models.values()))
    on_server = gr.Column(visible=False)
    with on_server, gr.Row(elem_id="camera-row"):
        with gr.Column(elem_id="mirror", scale=3):
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
            gr.HTML('<div class="part" data-part="overlay"></div>', apply_default_css=False, elem_id="overlay")
        with gr.Column(scale=2):
            live = _part(
                "live",
                "server-live",
                seconds=settings.webcam_seconds,
                frames_per_second=round(1 / FRAME_SECONDS),
            )
    show_on_server(on_device, [on_server, webcam])
    tracks = gr.State(time_to_live=settings.keep_seconds)
    stream = webcam.stream(
        handlers.show_live,
        [webcam, tracks, options],
        [live, tracks],
        stream_every=FRAME_SECONDS,
        preprocess=False,
        time_limit=settings.webcam_seconds,
        concurrency_limit=settings.webcam_viewers,
        **PRIVATE,
    )
    # The camera is taken off the page after Stop, after the time limit (Gradio would join the queue again:
    # https://github.com/gradio-app/gradio/pull/9173) and after a refusal (Gradio would ask again with every frame). The browser
    # does the last one itself, so that it happens before the next frame.
    webcam_parts = [webcam, live, tracks]
    ended = stream.then(  # not `success`: Stop is not one
        lambda: (gr.update(visible=False), {"ended": True}, None), None, webcam_parts, queue=False, **PRIVATE
    )
    hide_and_tell = [HIDE, {"refused": True}]
    refused = stream.failure(None, None, webcam_parts[:2], js=f"() => {json.dumps(hide_and_tell)}")
    for hidden in (ended, refused):
        hidden.then(lambda: gr.update(visible=True), None, webcam, queue=False, **PRIVATE)
    return webcam_parts


def _about_tab(handlers: Handlers, tab: gr.Tab, options: gr.HTML) -> None:
    """The figures of the chosen model are sent when the tab is opened: they would slow down the first screen."""
    summary = _part("about")
    with gr.Accordion(I18N("about_card"), open=False, elem_id="card-fold"):
        card = gr.Markdown(elem_id="card")

    def show_about(name: object) -> tuple:
        try:
            return about(handlers.served(name))
        except AgeGenderError as error:  # the page sends names that are offered
            raise refusal(str(error)) from None

    gr.on(
        [tab.select, options.select],
        show_about,
        options,
        [summary, card],
        queue=False,
        **PRIVATE,
    )


def _turn_camera_off(camera_tab: gr.Tab, others: list[gr.Tab], webcam_parts: list) -> None:
    """When the visitor leaves its tab. Only hiding the component ends the camera's tracks; Gradio's Stop does not."""
    camera_tab.select(lambda: (gr.update(visible=True), None, None), None, webcam_parts, queue=False, **PRIVATE)
    for tab in others:
        tab.select(lambda: (gr.update(visible=False), None, None), None, webcam_parts, queue=False, **PRIVATE)
