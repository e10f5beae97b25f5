"""The base of every error that a user can cause and mend."""


class AgeGenderError(ValueError):
    """What was given cannot be used. The message says what was expected, what came instead and what to do."""
