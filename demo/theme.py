"""The page's colours and fonts, light and dark."""

import gradio as gr


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
