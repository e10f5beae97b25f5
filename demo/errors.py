"""Why the demo does not answer although the request may be fine, and what the page is told, in whose language it says so."""

from model.errors import AgeGenderError, PictureError


BUSY = "The demo is busy. Try again in a moment."


class BusyError(AgeGenderError):
    """There was no place in time."""

    def __init__(self) -> None:
        super().__init__(BUSY)


class TooOftenError(AgeGenderError):
    """The client has used up what it may use in a minute, and may ask again after `wait_seconds`."""

    def __init__(self, text: str, wait_seconds: int):
        super().__init__(text)
        self.wait_seconds = wait_seconds


class TooCostlyError(PictureError):
    """The picture takes more time or memory to decode than one picture may."""


def kind_of(error: AgeGenderError) -> str:
    """What the page chooses its sentence by, for pictures and for frames of a webcam alike."""
    kinds = (
        (BusyError, "busy"),
        (TooOftenError, "too_often"),
        (TooCostlyError, "too_costly"),
        (PictureError, "picture"),
    )
    return next((kind for of, kind in kinds if isinstance(error, of)), "option")
