"""Answers as HTML: a readable card a face, pictures with captions, notices; every text from outside is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image, ImageOps

from demo.drawing import face_colour, gender_shares
from model.pipeline_age_gender import UNSURE


THUMBNAIL_SIDE = 112  # pixels


def thumbnail(picture: Image.Image, box: Sequence[float]) -> str:
    """The face in `box` (x0, y0, x1, y1 in pixels) as a data URL."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = 0.625 * max(box[2] - box[0], box[3] - box[1], 1)  # a quarter more than the face, of what the picture has
    x0, y0, x1, y1 = max(x - reach, 0), max(y - reach, 0), min(x + reach, picture.width), min(y + reach, picture.height)
    scale = THUMBNAIL_SIDE / max(x1 - x0, y1 - y0)
    size = [max(1, round(scale * side)) for side in (x1 - x0, y1 - y0)]
    face = picture.resize(size, box=(x0, y0, x1, y1), reducing_gap=2)
    return data_url(ImageOps.pad(face, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)))


def figure(picture: Image.Image, description: str, caption: str) -> str:
    """A picture with its caption, which a click or Enter enlarges; `description` is read out instead of it."""
    return (
        f'<figure><details><summary title="Larger or smaller"><img src="{data_url(picture)}" alt="{escape(description)}">'
        f"</summary></details><figcaption>{escape(caption)}</figcaption></figure>"
    )


def data_url(picture: Image.Image) -> str:
    """A JPEG inside the page itself: no file is written for it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def face_cards(numbers: Sequence[int], faces: Sequence[dict], coverage: float, gender_threshold: float) -> str:
    """
    Args:
        numbers: of the faces in the picture.
        faces: the pipeline's answers; optional: `thumbnail` (data URL) and `looked_at` (name -> data URL).
        coverage: share of faces whose age lies in their interval, 0 to 1.
        gender_threshold: probability below which no gender is named.
    """
    cards = "".join(
        _face_card(number, face, coverage, gender_threshold) for number, face in zip(numbers, faces, strict=True)
    )
    return f'<div class="face-cards">{cards}</div>'


def message(text: str, tone: str = "info") -> str:
    """A short notice that screen readers announce. `tone`: info or problem; further words are classes for page.css."""
    return f'<p class="notice {tone}" role="status">{escape(text)}</p>'


def _face_card(number: int, face: dict, coverage: float, gender_threshold: float) -> str:
    colour = face_colour(number)
    picture = f'<img src="{escape(face["thumbnail"])}" alt="Face {number}">' if face.get("thumbnail") else ""
    return (
        f'<article class="face-card" style="--face: {colour}" aria-label="Face {number}"><header>{picture}<div>'
        f'<h2><span class="number">{number}</span> {_headline(face)}</h2>'
        f"{_details(face, coverage, gender_threshold)}</div></header>"
        f"{_range_bars(face)}{_looked_at(face)}</article>"
    )


def _headline(face: dict) -> str:
    return "No answer for this face" if face["abstained"] else f"Looks about {face['age']:.0f} years old"


def _details(face: dict, coverage: float, gender_threshold: float) -> str:
    if face["abstained"]:
        return f"<p>{escape(face['abstained'])}</p>"
    low, high = face["age_interval"]
    years = f"between <b>{low} and {high} years</b>" if low < high else f"<b>{low} years</b>"
    return f"<p>Probably {years} (true for about {coverage:.0%} of faces)</p><p>{_gender(face, gender_threshold)}</p>"


def _gender(face: dict, threshold: float) -> str:
    if face["gender"] == UNSURE:
        shares = escape(gender_shares(face))
        return f"Gender: <b>unsure</b> ({shares}): the model names a gender only when at least {threshold:.0%} sure"
    return f"<b>Looks {escape(face['gender'])}</b> ({face['genders'][face['gender']]:.0%} sure)"


def _range_bars(face: dict) -> str:
    if face["abstained"]:
        return ""
    rows = "".join(
        f'<li class="{"best" if label == face["age_range"] else ""}"><span>{escape(label)}</span>'
        f'<i><b style="width: {share:.1%}"></b></i><span>{share:.0%}</span></li>'
        for label, share in face["age_ranges"].items()
    )
    return f'<h3>Age range in years, and how likely</h3><ul class="range-bars">{rows}</ul>'


def _looked_at(face: dict) -> str:
    if not face.get("looked_at"):
        return ""
    pictures = "".join(
        f'<figure><img src="{url}" alt="The face, bright where its pixels moved the answer about {name}">'
        f"<figcaption>for {name}</figcaption></figure>"
        for name, url in face["looked_at"].items()
    )
    return f'<h3>Where the model looked: the brighter, the more it mattered</h3><div class="looked-at">{pictures}</div>'
