"""Boxes and answers as a transparent layer over the visitor's own moving picture."""

from collections.abc import Sequence
from html import escape

from demo.drawing import face_colour, short_answer


def overlay_svg(size_wh: tuple[int, int], numbers: Sequence[int], faces: Sequence[dict]) -> str:
    """
    The page shows the video mirrored and sends its frames mirrored, so boxes fit as they are and text stays readable.

    Args:
        size_wh: of the frame in pixels; faces: the pipeline's answers, boxes in pixels of the frame.
    """
    width, height = size_wh
    found = "no face" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    shapes = "".join(_face(size_wh, number, face) for number, face in zip(numbers, faces, strict=True))
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="xMidYMid meet" role="img" '
        f'aria-label="{found} found" data-faces="{len(faces)}">{shapes}</svg>'
    )


def _face(size_wh: tuple[int, int], number: int, face: dict) -> str:
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
