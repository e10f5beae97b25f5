"""Load a model without this repository on sys.path, and compare it with the answers recorded before.

    python load_anywhere.py '{"model": "user/repo", "revision": "<commit>", "expected": "expected.npz", ...}'

`test_load_from_hub` copies this file elsewhere and runs it there; the first failed assertion ends it.
"""

import importlib.util
import json
import sys
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline


OUTPUTS = ("age_logits", "age_range_logits", "gender_logits")


def main(
    model: str,
    revision: str | None,
    expected: str,
    older_revision: str | None,
    older_expected: str,
    save_to: str,
) -> None:
    assert importlib.util.find_spec("trainer") is None, "the repository is on sys.path"
    where: dict[str, Any] = {"trust_remote_code": True}
    if revision:
        where["revision"] = revision
    before = np.load(expected)
    pixel_values = torch.from_numpy(before["pixel_values"])

    config = AutoConfig.from_pretrained(model, **where)
    assert list(config.id2label.values())[:3] == ["0-2", "3-9", "10-19"], config.id2label
    assert config.gender_names == ["male", "female"]

    network = AutoModel.from_pretrained(model, **where)
    assert type(network).__module__.startswith("transformers_modules."), type(network)
    with torch.inference_mode():
        output = network(pixel_values)
        for name in OUTPUTS:
            assert torch.equal(output[name], torch.from_numpy(before[name])), name
        compiled = torch.compile(network, fullgraph=True)(pixel_values)  # by inductor, which calls the C++ compiler
        for name in OUTPUTS:
            torch.testing.assert_close(compiled[name], output[name], rtol=0, atol=1e-5)
        for device_map in ("cpu", "auto"):
            placed = AutoModel.from_pretrained(model, device_map=device_map, **where)
            assert torch.equal(placed(pixel_values.to(placed.device)).age_logits.cpu(), output.age_logits)
        halved = AutoModel.from_pretrained(model, dtype=torch.bfloat16, **where)
        assert {parameter.dtype for parameter in halved.parameters()} == {torch.bfloat16}
        half_output = halved(pixel_values.bfloat16())
        assert (half_output.age_logits.float() - output.age_logits).abs().max() < 0.1

    processor = AutoImageProcessor.from_pretrained(model, **where)
    seen = processor(before["crop_rgb"], return_tensors="pt")["pixel_values"]
    assert torch.equal(seen, torch.from_numpy(before["crop_pixel_values"]))

    pipe = pipeline("age-gender-classification", model=model, **where)
    photo = before["photo_rgb"]
    answer = pipe(photo)
    assert answer == json.loads(str(before["answer"])), answer
    assert pipe([photo, photo[:200, :200], photo], batch_size=2)[2] == answer
    assert answer[0]["gender"] in ("male", "female", "unsure")
    assert list(answer[0]["age_ranges"]) == list(config.id2label.values())
    assert len(pipe(before["crop_rgb"], detect=False)) == 1
    placed_pipe = pipeline("age-gender-classification", model=model, device_map="auto", **where)
    assert placed_pipe(photo) == answer
    onnx_pipe = pipeline("age-gender-classification", model=model, onnx_file="onnx/model.onnx", **where)
    assert abs(onnx_pipe(photo)[0]["age"] - answer[0]["age"]) < 0.01
    halved_pipe = pipeline("age-gender-classification", model=model, dtype=torch.bfloat16, **where)
    assert halved_pipe.model.dtype == torch.bfloat16
    assert abs(halved_pipe(photo)[0]["age"] - answer[0]["age"]) < 3
    pipe.save_pretrained(save_to)

    if older_revision:
        older = AutoModel.from_pretrained(model, revision=older_revision, trust_remote_code=True)
        with torch.inference_mode():
            logits = older(pixel_values).age_logits
        assert torch.equal(logits, torch.from_numpy(np.load(older_expected)["age_logits"]))
        assert not torch.equal(logits, output.age_logits)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
