"""Labels in file names and table cells, and the words that name them."""

import pytest

from trainer.data.labels import FaceLabels, labels_from_name, labels_from_values, parse_words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("25_0_2_20170116174525125.jpg.chip.jpg", FaceLabels(25, 25, 25, 0, "Asian")),
        ("some/folder/25_1_0_20170116174525125.jpg", FaceLabels(25, 25, 25, 1, "White")),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", FaceLabels(24, 24, 24, 0, "Black")),  # a space
        ("55_0_0_20170116232725357jpg.chip.jpg", FaceLabels(55, 55, 55, 0, "White")),  # a missing dot
        ("61_1_20170109142408075.jpg.chip.jpg", FaceLabels(61, 61, 61, 1, "unknown")),  # no race
        ("25_0_7_20170116174525125.jpg", FaceLabels(25, 25, 25, 0, "unknown")),  # an undefined race
        ("0_0_0_20170116.jpg", FaceLabels(0, 0, 0, 0, "White")),
        ("116_1_3_20170116.png", FaceLabels(116, 116, 116, 1, "Indian")),
        ("117_0_0_20170116.jpg", "age out of range: 117, expected 0 to 116"),
        ("999_0_0_20170116.jpg", "age out of range: 999, expected 0 to 116"),
        ("25_2_0_20170116.jpg", "unknown gender: 2, expected 0 (male) or 1 (female)"),
        ("25_3_20170116174525125.jpg", "unknown gender: 3, expected 0 (male) or 1 (female)"),
        ("25_0_2.jpg", "name not understood: expected <age>_<gender>_<race>_<date>.jpg"),
        ("-5_0_0_20170116.jpg", "name not understood: expected <age>_<gender>_<race>_<date>.jpg"),
        ("portrait.jpg", "name not understood: expected <age>_<gender>_<race>_<date>.jpg"),
        ("٢٥_0_0_20170116.jpg", "name not understood: expected <age>_<gender>_<race>_<date>.jpg"),
    ],
)
def test_names(name, expected):
    assert labels_from_name(name) == (FaceLabels(problem=expected) if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("age", "gender", "expected"),
    [
        (25, "Male", FaceLabels(25, 25, 25, 0)),
        (25.0, " female ", FaceLabels(25, 25, 25, 1)),
        ("25.0", "female", FaceLabels(25, 25, 25, 1)),  # as a table with gaps is written
        ("0", None, FaceLabels(0, 0, 0, -100)),
        (None, "f", FaceLabels(gender=1)),
        (float("nan"), "m", FaceLabels(gender=0)),
        ("20-29", "", FaceLabels(-100, 20, 29, -100)),
        ("(25, 32)", "m", FaceLabels(-100, 25, 32, 0)),
        ("more than 70", "f", FaceLabels(-100, 70, 116, 1)),
        ("80+", "f", FaceLabels(-100, 80, 116, 1)),
        (None, None, "no label"),
        ("unknown", "nan", "no label"),
        (117, "m", "age out of range"),
        (999, "m", "age out of range"),
        ("29-20", "m", "age out of range"),
        (25.5, "m", "age not understood"),
        (-1, "m", "age not understood"),
        ("young", "m", "age not understood"),
        (25, "robot", "unknown gender: 'robot'"),
    ],
)
def test_values(age, gender, expected):
    labels = labels_from_values(age, gender, None, {"male": "male", "m": "male", "f": "female", "female": "female"}, {})
    if isinstance(expected, str):
        assert labels.problem.startswith(expected)
    else:
        assert labels == expected


@pytest.mark.parametrize("words", ["male", "Mann=mal", "=male", "Mann=male,,Frau=female"])
def test_words_that_are_not_understood(words):
    with pytest.raises(ValueError, match="Expected word=label with a label among male, female, got"):
        parse_words(words, ("male", "female"))
