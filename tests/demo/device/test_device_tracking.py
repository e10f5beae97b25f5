"""Numbers and boxes of faces that move, as the page's own modules follow them."""

import math
from statistics import median

import pytest
from playwright.sync_api import Page


pytestmark = pytest.mark.slow


MOVES = {
    "a face that sways by its width a frame": (100, [[100 + 80 * math.sin(k / 1.3) for k in range(20)]]),
    "a face that is seen twice a second": (500, [[320 + 160 * math.sin(2.8 / 1.6 * k / 2) for k in range(20)]]),
    "two neighbours, by a width a frame": (100, [[100 * k for k in range(8)], [100 * k + 120 for k in range(8)]]),
    "two that turn back": (100, [[100 * (k % 2) for k in range(8)], [100 * (k % 2) + 120 for k in range(8)]]),
    "two that pass each other": (100, [[60 * k for k in range(10)], [600 - 60 * k for k in range(10)]]),
}


@pytest.mark.parametrize("name", MOVES)
def test_numbers_stay_with_faces_that_move_fast(site_page: Page, name: str):
    """Faces 100 pixels wide, so many milliseconds from frame to frame, in whatever order the detector names them."""
    follow = """async ([milliseconds, paths]) => {
      const {Tracks} = await import(new URL('device/tracking.js', location.href))
      const tracks = new Tracks()
      return paths[0].map((_, frame) => {
        const rows = paths.map((path, row) => ({path: row, box: [path[frame], 50 + 90 * row, path[frame] + 100, 180 + 90 * row]}))
        const order = frame % 2 ? rows.reverse() : rows
        const found = tracks.update(order, milliseconds * frame)
        for (const track of found) tracks.confirm(track, track.candidate)
        return Object.fromEntries(order.map(({path}, index) => [path, found[index].number]))
      })
    }"""
    numbers = site_page.evaluate(follow, MOVES[name])
    assert all(frame == numbers[0] for frame in numbers), numbers


def test_what_a_close_look_does_not_find_is_no_face(site_page: Page):
    looks = """async found => {
      const {Tracks} = await import(new URL('device/tracking.js', location.href))
      const tracks = new Tracks()
      const [track] = tracks.update([{box: [0, 0, 100, 100]}], 0)
      return found.map(isFace => { tracks.confirm(track, isFace ? {} : null); return track.face ? track.number : null })
    }"""
    # One frame in which it is blurred does not end it; a second one does.
    assert site_page.evaluate(looks, [False, False, True, False, True, False, False, True]) == [
        *(None, None, 1, 1, 1, 1, None, 1),
    ]


# Milliseconds between detections -> the median distance in widths between a box and its face.
NEAR = {40: 0.1, 80: 0.25, 120: 0.25, 200: 0.45}


def test_a_box_moves_on_as_its_face_does(site_page: Page):
    """A face that sways as in the film. A detection is known as much later as it took, and measured to 2 pixels."""
    follow = """async ([milliseconds, amplitude, width]) => {
      const {Tracks, boxAt} = await import(new URL('device/tracking.js', location.href))
      const at = time => amplitude * Math.sin(2 * Math.PI * time / (64 * 1000 / 30))
      const away = [], tracks = new Tracks()
      for (let time = 0; time < 8000; time += milliseconds) {
        const noise = ((time * 7919) % 5) - 2
        const [track] = tracks.update([{box: [at(time) + noise, 0, at(time) + noise + width, width]}], time)
        if (time < 1000) continue
        for (let later = milliseconds; later < 2 * milliseconds; later += 10) {
          away.push(Math.abs(boxAt(track, time + later)[0] - at(time + later)) / width)
        }
      }
      return away
    }"""
    for milliseconds, bound in NEAR.items():
        away = site_page.evaluate(follow, [milliseconds, 150, 95])
        assert median(away) < bound, milliseconds
