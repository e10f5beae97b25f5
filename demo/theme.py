"""The look of Gradio's own parts: the same neutral surfaces and one accent as web/style/base.css gives the rest of the page."""

import gradio as gr


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
