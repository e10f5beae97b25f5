"""Near-duplicates are found, however they were changed, and different pictures are not taken for duplicates."""

import numpy as np
import pytest

from tests.support.faces_on_disk import NEAR_DUPLICATES, draw_detailed_face
from trainer.data.duplicates import (
    MIRROR_SIGNS,
    candidate_pairs,
    grey_thumbnail,
    group_duplicates,
    keypoint_matches,
    pixel_hash,
    same_picture,
    spectral_descriptors,
)


COUNT = 60


@pytest.fixture(scope="module")
def originals():
    return [draw_detailed_face(seed) for seed in range(COUNT)]


def group(pictures):
    return group_duplicates([pixel_hash(p) for p in pictures], lambda index: grey_thumbnail(pictures[index]).tobytes())


@pytest.mark.parametrize("kind", NEAR_DUPLICATES)
def test_near_duplicates_share_a_group(originals, kind):
    copies = [NEAR_DUPLICATES[kind](picture) for picture in originals[:10]]
    groups = group([*originals, *copies])
    assert len(set(groups[:COUNT])) == COUNT, "different pictures were taken for duplicates"
    assert groups[COUNT:].tolist() == groups[:10].tolist()


def test_duplicates_of_duplicates_are_one_group(originals):
    copies = [change(originals[0]) for change in NEAR_DUPLICATES.values()]
    groups = group([*originals, *copies])
    assert set(groups[COUNT:]) == {groups[0]}


def test_groups_do_not_depend_on_order(originals):
    pictures = [*originals, *(NEAR_DUPLICATES["mirrored"](picture) for picture in originals[:20])]
    order = np.random.default_rng(1).permutation(len(pictures))
    shuffled = group([pictures[i] for i in order])
    assert shuffled.tolist() == group(pictures)[order].tolist()


def test_a_group_is_named_by_the_smallest_hash_in_it(originals):
    pictures = [originals[0], NEAR_DUPLICATES["brighter"](originals[0]), *originals[1:40]]
    hashes = [pixel_hash(picture) for picture in pictures]
    assert group(pictures)[0] == min(hashes[:2])


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_pictures(originals, count):
    assert len(set(group(originals[:count]))) == count


def test_uniform_pictures_are_duplicates_only_if_identical():
    flat = [draw_detailed_face(0).point(lambda _, level=level: level) for level in (0, 0, 90, 255)]
    assert len(set(group([*flat, *(draw_detailed_face(seed) for seed in range(40))]))) == 43


def test_pixel_hash_ignores_the_file_and_sees_every_pixel():
    picture = draw_detailed_face(3)
    changed = picture.copy()
    changed.putpixel((5, 5), (1, 2, 3))
    assert pixel_hash(picture) == pixel_hash(picture.convert("RGBA"))
    assert len({pixel_hash(p) for p in (picture, changed, picture.transpose(2), picture.crop((0, 0, 60, 60)))}) == 4


def test_mirror_signs_mirror_the_descriptor(originals):
    thumbnails = np.stack([grey_thumbnail(picture) for picture in originals[:5]])
    mirrored = spectral_descriptors(thumbnails[:, :, ::-1])
    np.testing.assert_allclose(mirrored, spectral_descriptors(thumbnails) * MIRROR_SIGNS, atol=1e-5)


def test_same_picture_distinguishes_mirrored(originals):
    thumbnail = grey_thumbnail(originals[0])
    assert same_picture(thumbnail, thumbnail[:, ::-1].copy(), mirrored=True)
    assert not same_picture(thumbnail, thumbnail[:, ::-1].copy(), mirrored=False)


def test_keypoints_match_only_one_picture(originals):
    first, second = (grey_thumbnail(picture) for picture in originals[:2])
    assert keypoint_matches(first, first) > 50
    assert keypoint_matches(first, second) < 14
    assert keypoint_matches(first, np.zeros_like(first)) == 0


def test_approximate_search_finds_what_the_exact_one_finds(monkeypatch):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3000, len(MIRROR_SIGNS))).astype(np.float32)
    vectors[2000:2200] = vectors[:200] + 0.3 * random.normal(size=(200, len(MIRROR_SIGNS)))
    vectors[2200:2400] = vectors[200:400] * MIRROR_SIGNS + 0.3 * random.normal(size=(200, len(MIRROR_SIGNS)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = set(map(tuple, candidate_pairs(vectors)))
    monkeypatch.setattr("trainer.data.duplicates.EXACT_SEARCH_LIMIT", 1000)
    approximate = set(map(tuple, candidate_pairs(vectors)))
    made = {(i, 2000 + i, 0) for i in range(200)} | {(i, 2000 + i, 1) for i in range(200, 400)}
    assert made <= exact
    assert len(made & approximate) > 0.98 * len(made)
