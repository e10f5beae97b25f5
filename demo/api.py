"""The documented type of the HTTP API's answer."""

from gradio.components.api_component import Api as ApiOutput


__all__ = ["FACES_SCHEMA", "ApiOutput"]

_NUMBER, _NULL = {"type": "number"}, {"type": "null"}
_LABEL = {"anyOf": [{"type": "string"}, _NULL]}
_PROBABILITIES = {"anyOf": [{"type": "object", "additionalProperties": _NUMBER}, _NULL]}

# Null from `age` to `genders` where `abstained` gives a reason.
FACES_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "box": {"type": "array", "items": {"type": "integer"}},
            "detection_score": {"anyOf": [_NUMBER, _NULL]},
            "age": {"anyOf": [_NUMBER, _NULL]},
            "age_interval": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, _NULL]},
            "age_range": _LABEL,
            "age_ranges": _PROBABILITIES,
            "gender": _LABEL,
            "genders": _PROBABILITIES,
            "abstained": _LABEL,
        },
    },
}
