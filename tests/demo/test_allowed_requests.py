"""JSON is counted before it is parsed, in little time and memory whatever it is made of."""

import time
import tracemalloc

import pytest

from demo.allowed_requests import MAX_DEPTH, MAX_PARTS, BodyRefused, check_json


LENGTH = 8_000_000
SECONDS = 0.3  # of the processor's time; some 0.02
COPIES = 3  # of the body that may be in memory at once, the body itself not counted


@pytest.mark.parametrize(
    "repeated",
    [b"]", b"}", b"[]", b'"', b'\\"', b'\\\\"', b'"\\"', b"\\", b'\\\\\\"]', b"{},", b"x", b'"]",'],
    ids=lambda repeated: repeated.decode(),
)
@pytest.mark.parametrize("beginning", [b"", b'["'], ids=["outside", "in a text"])
def test_no_body_takes_long_to_count_or_is_copied_often(beginning: bytes, repeated: bytes):
    body = beginning + repeated * (LENGTH // len(repeated))
    tracemalloc.start()
    try:
        start = time.process_time()
        if repeated in (b"x", b"\\"):  # one value: the parser is asked
            check_json(body)
        else:
            with pytest.raises(BodyRefused) as refused:
                check_json(body)
            assert (refused.value.status, f"{MAX_PARTS:,} values" in refused.value.text) == (413, True)
        took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert took < SECONDS
    assert peak < COPIES * len(body)


@pytest.mark.parametrize(
    ("body", "is_allowed"),
    [
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, True),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), False),
        (b'["' + b"[" * 100 + b'"]', True),  # brackets in a text
        (b'["\\"' + b"[" * 100 + b'"]', True),  # behind a quote that belongs to it
        (b'["\\\\"' + b"," + b"[" * 100, False),  # behind a text that ends in a backslash
        (b'["\\\\\\"' + b"[" * 100 + b'"]', True),
        (b'["]]]",' * 30 + b"0" + b"]" * 30, False),
        (b'{"a":"' + b'\\"' * 2_000 + b'"}', True),
    ],
)
def test_depth_is_counted_outside_of_texts(body: bytes, is_allowed: bool):
    if is_allowed:
        check_json(body)
    else:
        with pytest.raises(BodyRefused, match=f"nested at most {MAX_DEPTH} deep"):
            check_json(body)
