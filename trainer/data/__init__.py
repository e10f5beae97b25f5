"""Labelled faces from any source, as cleaned and decoded splits that share no picture. `loading.load_faces` is the way in."""

from model.errors import AgeGenderError


class DatasetError(AgeGenderError):
    """The data set cannot be used as asked."""
