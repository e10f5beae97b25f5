"""Age ranges as people write them, and the names the configuration gives to outputs."""

import json

import pytest

from model.configuration_age_gender import RANGE_SETS, AgeGenderConfig, age_range_label, parse_age_ranges
from model.errors import AgeGenderError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-17, 18-39, 40+", [[0, 17], [18, 39], [40, 116]]),
        ("0-17;18-116", [[0, 17], [18, 116]]),
        (["0-17", "18+"], [[0, 17], [18, 116]]),
        ("0, 1 – 17,\n18+", [[0, 0], [1, 17], [18, 116]]),  # a single year, a typographic dash, a line break
        ("0+", [[0, 116]]),
        ("4 bins", [[0, 17], [18, 39], [40, 59], [60, 116]]),  # the name of a set
        ([[0, 17], (18, 116)], [[0, 17], [18, 116]]),
    ],
)
def test_parse_age_ranges(text, expected):
    assert parse_age_ranges(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-17, 19+", "18 is in no range: add 18"),
        ("1-17, 18+", "0 is in no range"),
        ("0-17, 17+", "overlaps the range before it: start it at 18"),
        ("0-17, 18-39", "the years from 40 on are in no range: end with 40\\+"),
        ("17-0, 18+", "runs backwards: write 0-17"),
        ("0-17, 18-200", "the last range ends at 200: end it at 116"),
        ("children, adults", "'children' is not understood. Write ranges as"),
        ("", "got none"),
        ([[0, 17], [18]], r"two whole years, \[low, high\]; got \[18\]"),
        ([[0, 17.5], [18, 116]], r"two whole years, \[low, high\]; got \[0, 17\.5\]"),
        ([0, 17, 18, 116], "two whole years"),
        (18, "Expected age ranges such as '0-17, 18\\+' .* got 18"),
    ],
)
def test_ranges_that_do_not_cover_every_year_once(text, message):
    with pytest.raises(AgeGenderError, match=message):
        parse_age_ranges(text)


@pytest.mark.parametrize("name", RANGE_SETS)
def test_range_sets_cover_every_year(name):
    ranges = parse_age_ranges(RANGE_SETS[name])
    assert [year for low, high in ranges for year in range(low, high + 1)] == list(range(117))


def test_labels_name_the_ranges():
    config = AgeGenderConfig(age_ranges=[[0, 17], [18, 18], [19, 116]])
    assert config.id2label == {0: "0-17", 1: "18", 2: "19+"}
    assert config.label2id == {"0-17": 0, "18": 1, "19+": 2}
    assert age_range_label(0, 116) == "0+"


def test_changed_ranges_change_the_labels():
    config = AgeGenderConfig()
    config.set_age_ranges(parse_age_ranges("0-17, 18+"))
    assert config.age_range_labels == list(config.id2label.values()) == ["0-17", "18+"]


def test_configuration_survives_saving(tmp_path):
    config = AgeGenderConfig(image_size=64, age_ranges=[[0, 59], [60, 116]], gender_threshold=0.7, interval_mass=0.6)
    config.save_pretrained(tmp_path)
    loaded = AgeGenderConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()


@pytest.mark.parametrize("flip_tta", [True, False])
def test_configuration_saved_under_the_old_name_of_flip_tta(tmp_path, flip_tta):
    AgeGenderConfig().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["flip_tta"]
    (tmp_path / "config.json").write_text(json.dumps(saved | {"mirror_average": flip_tta}))
    loaded = AgeGenderConfig.from_pretrained(tmp_path)
    assert loaded.flip_tta is flip_tta
    assert AgeGenderConfig.from_pretrained(tmp_path, flip_tta=not flip_tta).flip_tta is not flip_tta
    loaded.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["flip_tta"] is flip_tta
    assert "mirror_average" not in saved
