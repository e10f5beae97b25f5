"""Faces as visitors see them: boxes drawn onto a picture, the layer over the live video, and one HTML card a face.

A face is a dict as the pipeline answers it; a `box` is [x0, y0, x1, y1] in pixels of the upright picture.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from demo.texts import count_faces
from model.decoding_age_gender import UNSURE


SMALLEST_SIDE, LARGEST_SIDE = 900, 1600  # pixels of a drawn picture's longer side: below, text is not sharp
THUMBNAIL_SIDE = 112  # pixels
# Dark enough for white text at a contrast of at least 4.5 to 1 (WCAG 2.2 AA).
FACE_COLOURS = ("#0b62c4", "#b83a06", "#15703a", "#7e22ce", "#be123c", "#0f6b64", "#8a5300", "#4338ca")


def face_colour(number: int) -> str:
    """The colour of the face numbered 1, 2, ...: the same in the picture and on its card."""
    return FACE_COLOURS[(number - 1) % len(FACE_COLOURS)]


def short_answer(face: dict[str, Any]) -> list[str]:
    """At most two short lines: `["34 years", "looks female"]`."""
    if face["abstained"]:
        return ["no answer"]
    gender = "gender unsure" if face["gender"] == UNSURE else f"looks {face['gender']}"
    return [f"{face['age']:.0f} years", gender]


def gender_shares(face: dict[str, Any]) -> str:
    """`"male 48%, female 52%"`"""
    return ", ".join(f"{name} {share:.0%}" for name, share in face["genders"].items())


def describe(faces: Sequence[dict[str, Any]]) -> str:
    """The drawn picture in words, for screen readers."""
    answers = [f"face {number}: {', '.join(short_answer(face))}" for number, face in enumerate(faces, start=1)]
    return f"Your picture. {count_faces(len(faces))} {'; '.join(answers)}"


def draw_faces(picture: Image.Image, faces: Sequence[dict[str, Any]]) -> Image.Image:
    """A copy of `picture` (RGB, upright) with every face boxed, numbered and labelled.

    Its longer side is brought into `SMALLEST_SIDE` to `LARGEST_SIDE`.
    """
    longest = max(picture.size)
    scale = min(max(longest, SMALLEST_SIDE), LARGEST_SIDE) / longest
    width, height = (max(1, round(side * scale)) for side in picture.size)
    drawn = picture.resize((width, height), reducing_gap=2)
    draw = ImageDraw.Draw(drawn)
    line = max(2, round(max(drawn.size) / 220))
    boxes = [[value * scale for value in face["box"]] for face in faces]
    for number, box in enumerate(boxes, start=1):
        outline = [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
        draw.rectangle(outline, outline="white", width=line + 2)  # keeps the box visible on its own colour
        draw.rectangle(box, outline=face_colour(number), width=line)
    for number, (face, box) in enumerate(zip(faces, boxes, strict=True), start=1):
        _draw_label(draw, drawn.size, box, number, short_answer(face), is_only_face=len(faces) == 1)
    return drawn


def _draw_label(
    draw: ImageDraw.ImageDraw,
    size_wh: tuple[int, int],
    box: Sequence[float],
    number: int,
    answer: list[str],
    is_only_face: bool,
) -> None:
    """A filled label above the box, or inside it where there is no room above; small faces get smaller text."""
    usual = max(size_wh) / 30
    fitting = usual if is_only_face else min(usual, max(usual * 0.62, (box[2] - box[0]) / 6.5))
    size = max(11, fitting)
    font = ImageFont.load_default(size)
    text = "\n".join([f"{number} · {answer[0]}", *answer[1:]])
    pad = max(3, size / 3)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=pad / 2)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0, box[0]), max(0, size_wh[0] - width))
    y = box[1] - height if box[1] >= height else min(box[1], size_wh[1] - height)
    draw.rounded_rectangle([x, y, x + width, y + height], radius=pad / 2, fill=face_colour(number))
    draw.multiline_text((x + pad - left, y + pad - top), text, font=font, fill="white", spacing=pad / 2)


def thumbnail(picture: Image.Image, box: Sequence[float]) -> str:
    """The face in `box`, with some of the picture around it, as a data URL."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = 0.625 * max(box[2] - box[0], box[3] - box[1], 1)  # a quarter more than the face, within the picture
    x0, y0, x1, y1 = max(x - reach, 0), max(y - reach, 0), min(x + reach, picture.width), min(y + reach, picture.height)
    scale = THUMBNAIL_SIDE / max(x1 - x0, y1 - y0)
    width, height = (max(1, round(scale * side)) for side in (x1 - x0, y1 - y0))
    face = picture.resize((width, height), box=(x0, y0, x1, y1), reducing_gap=2)
    return data_url(ImageOps.pad(face, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)))


def data_url(picture: Image.Image) -> str:
    """A JPEG inside the page itself, so that no file is written for it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def overlay_svg(size_wh: tuple[int, int], numbers: Sequence[int], faces: Sequence[dict[str, Any]]) -> str:
    """Boxes and labels as an SVG layer over a frame of `size_wh` pixels.

    The page shows the video mirrored and sends mirrored frames, so boxes fit as they are and text stays readable.
    """
    width, height = size_wh
    found = "no face" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    shapes = "".join(_svg_face(size_wh, number, face) for number, face in zip(numbers, faces, strict=True))
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="xMidYMid meet" role="img" '
        f'aria-label="{found} found" data-faces="{len(faces)}">{shapes}</svg>'
    )


def _svg_face(size_wh: tuple[int, int], number: int, face: dict[str, Any]) -> str:
    width, height = size_wh
    x0, y0, x1, y1 = face["box"]
    colour, lines = face_colour(number), short_answer(face)
    lines[0] = f"{number} · {lines[0]}"
    em = height / 24
    label_width = max(map(len, lines)) * em * 0.55 + em
    label_height = (len(lines) * 1.25 + 0.4) * em
    x = min(max(0, x0), max(0, width - label_width))
    y = y0 - label_height if y0 >= label_height else min(max(0, y0), height - label_height)
    texts = "".join(
        f'<text x="{x + em / 2:.0f}" y="{y + em * (1.05 + 1.25 * row):.0f}" font-size="{em:.0f}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    return (
        f'<rect class="box" x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}" stroke="{colour}"/>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{label_width:.0f}" height="{label_height:.0f}" rx="4" fill="{colour}"/>'
        f"{texts}"
    )


def message(text: str, tone: str = "info") -> str:
    """A short notice that screen readers announce. `tone`: info or problem; further words are classes for page.css."""
    return f'<p class="notice {tone}" role="status">{escape(text)}</p>'


def figure(picture: Image.Image, description: str, caption: str) -> str:
    """A picture with its caption; a click or Enter enlarges it. Screen readers read `description`."""
    return (
        f'<figure><details><summary title="Larger or smaller"><img src="{data_url(picture)}" alt="{escape(description)}">'
        f"</summary></details><figcaption>{escape(caption)}</figcaption></figure>"
    )


def face_cards(
    numbers: Sequence[int], faces: Sequence[dict[str, Any]], coverage: float, gender_threshold: float
) -> str:
    """One card a face.

    Args:
        numbers: of the faces in the picture.
        faces: the pipeline's answers; optional: `thumbnail` (data URL) and `saliency_maps` (name -> data URL).
        coverage: share of faces whose age lies in their interval, 0 to 1.
        gender_threshold: probability below which no gender is named, 0 to 1.
    """
    cards = "".join(
        _face_card(number, face, coverage, gender_threshold) for number, face in zip(numbers, faces, strict=True)
    )
    return f'<div class="face-cards">{cards}</div>'


def _face_card(number: int, face: dict[str, Any], coverage: float, gender_threshold: float) -> str:
    picture = f'<img src="{escape(face["thumbnail"])}" alt="Face {number}">' if face.get("thumbnail") else ""
    if face["abstained"]:
        headline, rest = "No answer for this face", ""
        details = f"<p>{escape(face['abstained'])}</p>"
    else:
        headline, rest = f"Looks about {face['age']:.0f} years old", _range_bars(face) + _saliency(face)
        details = f"<p>{_interval(face, coverage)}</p><p>{_gender(face, gender_threshold)}</p>"
    return (
        f'<article class="face-card" style="--face: {face_colour(number)}" aria-label="Face {number}">'
        f'<header>{picture}<div><h2><span class="number">{number}</span> {headline}</h2>{details}</div></header>'
        f"{rest}</article>"
    )


def _interval(face: dict[str, Any], coverage: float) -> str:
    low, high = face["age_interval"]
    years = f"between <b>{low} and {high} years</b>" if low < high else f"<b>{low} years</b>"
    return f"Probably {years}. For about {coverage:.0%} of faces such an interval contains the true age."


def _gender(face: dict[str, Any], threshold: float) -> str:
    if face["gender"] == UNSURE:
        shares = escape(gender_shares(face))
        return f"Gender: <b>unsure</b> ({shares}). The model names a gender only at a confidence of {threshold:.0%} or more."
    return f"<b>Looks {escape(face['gender'])}</b> ({face['genders'][face['gender']]:.0%} confidence)"


def _range_bars(face: dict[str, Any]) -> str:
    rows = "".join(
        f'<li class="{"best" if label == face["age_range"] else ""}"><span>{escape(label)}</span>'
        f'<i><b style="width: {share:.1%}"></b></i><span>{share:.0%}</span></li>'
        for label, share in face["age_ranges"].items()
    )
    return f'<h3>Probability of each age range, in years</h3><ul class="range-bars">{rows}</ul>'


def _saliency(face: dict[str, Any]) -> str:
    if not face.get("saliency_maps"):
        return ""
    pictures = "".join(
        f'<figure><img src="{url}" alt="The face, bright where its pixels matter most for the {name}">'
        f"<figcaption>for {name}</figcaption></figure>"
        for name, url in face["saliency_maps"].items()
    )
    return f'<h3>Saliency maps: the brighter, the more it matters</h3><div class="saliency">{pictures}</div>'
