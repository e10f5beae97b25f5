"""Boxes, numbers and answers drawn onto a picture."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from model.pipeline_age_gender import UNSURE


SHOWN_SIDES = 900, 1600  # pixels: enlarged to the first, so that text is sharp; more than the second is not seen
# Dark enough for white text at a contrast of 4.5 to 1 and more (WCAG AA).
FACE_COLOURS = ("#0b62c4", "#b83a06", "#15703a", "#7e22ce", "#be123c", "#0f6b64", "#8a5300", "#4338ca")


def face_colour(number: int) -> str:
    """The colour of the face numbered 1, 2, ...: the same in the picture and on its card."""
    return FACE_COLOURS[(number - 1) % len(FACE_COLOURS)]


def short_answer(face: dict) -> list[str]:
    """At most two short lines: `["34 years", "looks female"]`."""
    if face["abstained"]:
        return ["no answer"]
    gender = "gender unsure" if face["gender"] == UNSURE else f"looks {face['gender']}"
    return [f"{face['age']:.0f} years", gender]


def gender_shares(face: dict) -> str:
    """`"male 48%, female 52%"`"""
    return ", ".join(f"{name} {share:.0%}" for name, share in face["genders"].items())


def draw_faces(picture: Image.Image, faces: Sequence[dict]) -> Image.Image:
    """A copy of `picture` (RGB, upright), brought into `SHOWN_SIDES`, with every face boxed and numbered.

    Args:
        faces: the pipeline's answer; `box` is [x0, y0, x1, y1] in pixels of `picture`.
    """
    longest = max(picture.size)
    scale = min(max(longest, SHOWN_SIDES[0]), SHOWN_SIDES[1]) / longest
    shown = picture.resize([max(1, round(side * scale)) for side in picture.size], reducing_gap=2)
    draw = ImageDraw.Draw(shown)
    line = max(2, round(max(shown.size) / 220))
    boxes = [[value * scale for value in face["box"]] for face in faces]
    for number, box in enumerate(boxes, start=1):
        rim = [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
        draw.rectangle(rim, outline="white", width=line + 2)  # keeps the box visible on its own colour
        draw.rectangle(box, outline=face_colour(number), width=line)
    for number, (face, box) in enumerate(zip(faces, boxes, strict=True), start=1):
        _draw_label(draw, shown.size, box, number, short_answer(face), alone=len(faces) == 1)
    return shown


def _draw_label(
    draw: ImageDraw.ImageDraw, size_wh: tuple, box: list, number: int, answer: list[str], alone: bool
) -> None:
    """A filled label above the box, or inside it where there is no room above; small faces get smaller text."""
    usual = max(size_wh) / 30
    fitting = usual if alone else min(usual, max(usual * 0.62, (box[2] - box[0]) / 6.5))
    font = ImageFont.load_default(max(11, fitting))
    text = "\n".join([f"{number} · {answer[0]}", *answer[1:]])
    pad = max(3, font.size / 3)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=pad / 2)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0, box[0]), max(0, size_wh[0] - width))
    y = box[1] - height if box[1] >= height else min(box[1], size_wh[1] - height)
    draw.rounded_rectangle([x, y, x + width, y + height], radius=pad / 2, fill=face_colour(number))
    draw.multiline_text((x + pad - left, y + pad - top), text, font=font, fill="white", spacing=pad / 2)
