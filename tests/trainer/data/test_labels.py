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
        ("wiki/17/10000217_1981-05-05_2009.jpg", FaceLabels(28, 28, 28)),  # IMDB-WIKI: date of birth, year of the photo
        ("nm0000001_rm124825600_1899-9-10_1968.jpg", FaceLabels(68, 68, 68)),  # not yet had a birthday in July
        ("17_1981-0-0_2009.jpg", FaceLabels(-100, 27, 28)),  # the year of birth alone leaves two ages
        ("17_2009-09-01_2009.jpg", FaceLabels(0, 0, 0)),
        ("17_2010-05-05_2009.jpg", "age out of range: born 2010-05-05, photo of 2009, expected 0 to 116 years"),
        ("faces\\25_0_2_20170116174525125.jpg", FaceLabels(25, 25, 25, 0, "Asian")),
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
        ("20–29", "f", FaceLabels(-100, 20, 29, 1)),
        ("20 \N{MINUS SIGN} 29 years", "f", FaceLabels(-100, 20, 29, 1)),
        ("[20, 29]", "f", FaceLabels(-100, 20, 29, 1)),
        ("25 years old", "f", FaceLabels(25, 25, 25, 1)),
        ("60 and over", "f", FaceLabels(-100, 60, 116, 1)),
        (">=60", "f", FaceLabels(-100, 60, 116, 1)),
        ("03-Sep", "m", FaceLabels(-100, 3, 9, 0)),  # 3-9 and 10-19 after a spreadsheet
        ("9-Mar", "m", FaceLabels(-100, 3, 9, 0)),
        ("Oct-19", "m", FaceLabels(-100, 10, 19, 0)),
        ("2019-10-01 00:00:00", "m", "age not understood: '2019-10-01 00:00:00', perhaps a range that a spreadsheet"),
        ("1981", "m", "age out of range: 1981, a year of birth? Add birth_column and photo_column to the recipe"),
        ("(20-29", "m", "age not understood"),
        (0, "m", FaceLabels(0, 0, 0, 0)),
        (25, "u", FaceLabels(25, 25, 25, -100)),
        (25, "Unknown", FaceLabels(25, 25, 25, -100)),
        (25, "divers", FaceLabels(25, 25, 25, -100)),
        ("None", "u", "no label"),
        (25, 0, "gender 0 says nothing: add gender_words: 0=male,1=female (as in UTKFace) or 0=female,1=male"),
        (25, "1.0", "gender 1 says nothing"),
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
    words = {"male": "male", "m": "male", "f": "female", "female": "female", "divers": "unknown"}
    labels = labels_from_values(age, gender, None, words, {})
    if isinstance(expected, str):
        assert labels.problem.startswith(expected)
    else:
        assert labels == expected


@pytest.mark.parametrize(
    ("age", "birth", "photo", "expected"),
    [
        (None, "1981-05-05", "2009", (28, 28)),
        (None, "1981-05-05", "2009-05-04", (27, 27)),
        (None, "1981-05-05 00:00:00", "2009-05-05", (28, 28)),
        (None, 1981, 2009.0, (27, 28)),
        (30, 1981, 2009, (30, 30)),  # a given age comes first
        (None, 1981, None, (-100, -100)),
        (None, "693726", 2009, "birth not understood: '693726', expected a year or a date such as 1981-05-05"),
        (None, 2009, 1981, "age out of range"),
    ],
)
def test_ages_between_two_dates(age, birth, photo, expected):
    labels = labels_from_values(age, "m", None, {"m": "male"}, {}, birth, photo)
    if isinstance(expected, str):
        assert labels.problem.startswith(expected)
    else:
        assert (labels.age_low, labels.age_high) == expected
        assert not labels.problem


@pytest.mark.parametrize("words", ["male", "Mann=mal", "=male", "Mann=male,,Frau=female"])
def test_words_that_are_not_understood(words):
    with pytest.raises(ValueError, match="Expected word=label with a label among male, female, got"):
        parse_words(words, ("male", "female"))
