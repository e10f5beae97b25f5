"""The base of every error that a user can cause and mend, and that of a picture, which several modules raise."""


class AgeGenderError(ValueError):
    """What was given cannot be used. The message says what was expected, what came instead and what to do."""


class PictureError(AgeGenderError):
    """The picture cannot be used."""
