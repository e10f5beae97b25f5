"""What a call of the pipeline may ask for: crops, boxes from elsewhere, other ranges."""

import numpy as np
import pytest

from model.configuration_age_gender import RANGE_SETS, parse_age_ranges
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.tiny_pipeline import GROUP, PHOTO, close, make_pipe


@pytest.fixture(scope="module")
def pipe() -> AgeGenderPipeline:
    return make_pipe()


def test_face_crop(pipe: AgeGenderPipeline):
    crop = PHOTO[20:220, 130:330]
    [face] = pipe(crop, detect=False)
    assert face["box"] == [0, 0, 200, 200]
    assert face["detection_score"] is None
    wide = np.concatenate([np.zeros((200, 40, 3), np.uint8), crop, np.zeros((200, 40, 3), np.uint8)], axis=1)
    [same] = pipe(wide, detect=False)  # its largest centred square
    assert close(same["age_ranges"], face["age_ranges"])


def test_boxes_from_elsewhere(pipe: AgeGenderPipeline):
    detected = pipe(PHOTO)[0]
    there, elsewhere = pipe(PHOTO, boxes=[(170, 50, 280, 190), (300.0, 300.0, 600.0, 600.0)])
    assert there["box"] == [170, 50, 280, 190]
    assert elsewhere["box"] == [300, 300, 512, 512]
    assert there["detection_score"] is None
    assert there["age"] == pytest.approx(detected["age"], abs=1)  # the same landmarks, found inside the box
    assert pipe(PHOTO, boxes=[]) == []
    several = pipe([PHOTO, GROUP], boxes=[[(170, 50, 280, 190)], [(0, 0, 200, 200), (200, 0, 400, 200)]])
    assert [len(faces) for faces in several] == [1, 2]
    assert close(several[0], [there])


@pytest.mark.parametrize(
    "box",
    [(10, 10, 5, 20), (0, 0, 0, 0), (600, 0, 700, 100), (1, 2, 3), (0, 0, float("nan"), 9), "face"],
)
def test_boxes_that_are_none(pipe: AgeGenderPipeline, box):
    with pytest.raises(ValueError, match=r"x0, y0, x1, y1|could not convert"):
        pipe(PHOTO, boxes=[box])


def test_boxes_for_other_pictures(pipe: AgeGenderPipeline):
    with pytest.raises(ValueError, match="1 lists for 2 pictures"):
        pipe([PHOTO, PHOTO], boxes=[[(0, 0, 9, 9)]])
    with pytest.raises(ValueError, match="got both"):
        pipe(PHOTO, boxes=[(0, 0, 9, 9)], detect=False)


@pytest.mark.parametrize("ranges", ["0-17, 18+", *RANGE_SETS, [[0, 17], [18, 116]], ["0-5", "6+"]])
def test_other_ranges_are_sums_of_the_same_years(pipe: AgeGenderPipeline, ranges):
    [own] = pipe(PHOTO, return_years=True)
    [other] = pipe(PHOTO, return_years=True, age_ranges=ranges)
    years = own["year_probabilities"]
    assert years == other["year_probabilities"]
    assert len(years) == 117
    pairs = ranges if isinstance(ranges[0], list) else parse_age_ranges(RANGE_SETS.get(str(ranges), ranges))
    assert list(other["age_ranges"].values()) == pytest.approx([sum(years[low : high + 1]) for low, high in pairs])
    assert other["age"] == own["age"]
    assert list(pipe(PHOTO)[0]["age_ranges"]) == list(own["age_ranges"])  # the model's own ranges stay


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"age_ranges": "0-17, 19+"}, "18 is in no range"),
        ({"age_ranges": "0-20, 18+"}, "overlaps"),
        ({"age_ranges": "young, old"}, "not understood"),
        ({"age_ranges": [[0, 20]]}, r"end with 21\+"),
        ({"detector": "dlib"}, "'yunet' or 'haar'; got 'dlib'"),
    ],
)
def test_options_that_are_wrong(pipe: AgeGenderPipeline, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        pipe(PHOTO, **options)
