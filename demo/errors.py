"""Why the demo does not answer although the request may be fine. `demo.desk` tells the page which of these it was."""

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
