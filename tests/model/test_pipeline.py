"""The pipeline: pictures in, one typed answer a face out, the same whichever way it is asked."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import coffee

from model import pipeline_age_gender
from model.configuration_age_gender import RANGE_SETS
from model.face_detection import YUNET_FILE
from model.image_loading import PictureError
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from tests.support.tiny_pipeline import GROUP, PHOTO, close, make_pipe
from trainer.build_model import make_image_processor
from trainer.publishing import save_model_folder


WITHOUT_FACE = coffee()
KEYS = [
    *("box", "detection_score", "roll_degrees", "age", "age_interval", "age_range", "age_ranges", "gender", "genders"),
    "abstained",
]


@pytest.fixture(scope="module")
def pipe() -> AgeGenderPipeline:
    return make_pipe()


def test_answer(pipe: AgeGenderPipeline):
    [face] = pipe(PHOTO)
    assert list(face) == KEYS
    assert json.loads(json.dumps(face)) == face  # plain Python types
    x0, y0, x1, y1 = face["box"]
    assert 170 <= x0 < 190
    assert 55 <= y0 < 80
    assert 260 <= x1 < 280
    assert 165 <= y1 < 200
    assert 0.9 < face["detection_score"] <= 1
    low, high = face["age_interval"]
    assert 0 <= low <= face["age"] <= high <= 116
    assert list(face["age_ranges"]) == RANGE_SETS["FairFace-9"].split(", ")
    assert sum(face["age_ranges"].values()) == pytest.approx(1)
    assert face["age_range"] == max(face["age_ranges"], key=face["age_ranges"].get)
    assert sum(face["genders"].values()) == pytest.approx(1)
    assert face["gender"] == max(face["genders"], key=face["genders"].get)
    assert face["abstained"] is None


def test_answer_is_that_of_the_model_on_the_crop(pipe: AgeGenderPipeline):
    [crop] = pipe.preprocess(PHOTO).crops
    pixel_values = torch.tensor(crop).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        output = pipe.model(pixel_values)
    ranges = output.age_range_logits.softmax(dim=1)[0].tolist()
    [face] = pipe(PHOTO)
    assert list(face["age_ranges"].values()) == pytest.approx(ranges, abs=1e-5)
    assert list(face["genders"].values()) == pytest.approx(output.gender_logits.softmax(dim=1)[0].tolist(), abs=1e-5)


def test_no_face(pipe: AgeGenderPipeline):
    assert pipe(WITHOUT_FACE) == []
    assert pipe([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batch_answers_as_single(pipe: AgeGenderPipeline, batch_size: int):
    pictures = [PHOTO, WITHOUT_FACE, GROUP, PHOTO[:, ::-1], WITHOUT_FACE]
    expected = [pipe(picture) for picture in pictures]
    assert [len(faces) for faces in expected] == [1, 0, 20, 1, 0]
    assert close(pipe(pictures, batch_size=batch_size), expected)
    assert close(pipe(tuple(pictures), batch_size=batch_size), expected)
    assert close(list(pipe((picture for picture in pictures), batch_size=batch_size)), expected)


def test_workers(pipe: AgeGenderPipeline):
    assert close(pipe([PHOTO, GROUP], num_workers=1), [pipe(PHOTO), pipe(GROUP)])


@pytest.mark.parametrize("copied", [lambda pipe: pickle.loads(pickle.dumps(pipe)), copy.deepcopy])
def test_copies_answer_as_the_pipeline_does(pipe: AgeGenderPipeline, copied: Callable):
    """As workers get one where processes are spawned and not forked."""
    expected, by_cascade = pipe(PHOTO), pipe(PHOTO, detector="haar")
    again = copied(pipe)
    assert again(PHOTO) == expected
    assert again(PHOTO, detector="haar") == by_cascade


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_other_processes_answer_the_same(way: str):
    """A fork after use, as by gunicorn --preload and Celery, waited for ever for threads of its parent."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.other_processes", way],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "2"},  # of both processes, whatever is set outside and however few cores
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ages, ages_there, threads = done.stdout.splitlines()
    assert ages_there == ages
    assert ("forked after the pipeline was used" in done.stderr) == (way == "fork") == (threads == "1")


def test_faces_of_a_call_go_through_the_model_together(pipe: AgeGenderPipeline):
    sizes = []
    hook = pipe.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    pipe(GROUP)
    pipe([GROUP, WITHOUT_FACE, PHOTO], batch_size=3)
    pipe(WITHOUT_FACE)
    hook.remove()
    assert sizes == [20, 21]


def test_faces_are_moved_to_the_device_of_the_pipeline():
    pipe, devices = make_pipe(), []

    def back_to_the_cpu(module, args):
        devices.append(args[0].device.type)
        return (torch.zeros(args[0].shape),)

    pipe.model.register_forward_pre_hook(back_to_the_cpu)
    pipe.device = torch.device("meta")  # every machine has it beside the CPU
    assert len(pipe(GROUP)) == 20
    assert devices == ["meta"]


class OnAppleGpu(torch.Tensor):
    """A tensor on a device without float64, until it is moved to the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.double:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        result = super().__torch_function__(function, types, args, kwargs)
        return result.as_subclass(torch.Tensor) if function is torch.Tensor.cpu else result


def test_a_device_without_float64(pipe: AgeGenderPipeline):
    expected = pipe(PHOTO)

    def move(module, args, output):
        for name in ("age_logits", "gender_logits"):
            output[name] = output[name].as_subclass(OnAppleGpu)
        return output

    hook = pipe.model.register_forward_hook(move)
    answer = pipe(PHOTO)
    hook.remove()
    assert answer == expected


def test_bad_picture_among_good_ones(pipe: AgeGenderPipeline, tmp_path: Path):
    path = tmp_path / "letter.jpg"
    path.write_text("not a picture")
    with pytest.raises(PictureError, match=r"letter\.jpg is none of these"):
        pipe([PHOTO, str(path)])


def test_boxes_lie_in_the_upright_picture(pipe: AgeGenderPipeline):
    """A phone stores the sensor's rows and says how it was held."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO[:400]).transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    assert close(pipe(buffer.getvalue()), pipe(PHOTO[:400]))


def test_small_faces_get_no_answer():
    pipe = make_pipe(min_face_pixels=100)
    [face] = pipe(PHOTO, return_years=True)
    assert list(face) == [*KEYS[:-1], "year_probabilities", "abstained"]
    assert face["abstained"] == "The face is 91 pixels wide; at least 100 are needed."
    assert {face[key] for key in KEYS[3:-1]} == {None}
    assert face["box"]
    assert face["detection_score"] > 0.9


def test_no_answer_where_it_is_not_certain_which_way_up_a_face_is(pipe: AgeGenderPipeline):
    prepared = pipe.preprocess(PHOTO)
    unsure = replace(prepared, faces=[replace(face, is_roll_certain=False) for face in prepared.faces])
    [[face]] = pipe.answer([unsure])
    assert face["abstained"] == "It is not certain which way up the face is. Turn the picture upright."
    assert {face[key] for key in KEYS[3:-1]} == {None}
    assert pipe(PHOTO)[0]["abstained"] is None


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_is_answered_as_the_upright_one(pipe: AgeGenderPipeline, quarters: int):
    [upright], [turned] = pipe(PHOTO), pipe(np.rot90(PHOTO, -quarters).copy())
    assert abs((turned["roll_degrees"] - upright["roll_degrees"] - 90 * quarters + 180) % 360 - 180) <= 5
    assert turned["age"] == pytest.approx(
        upright["age"], abs=3
    )  # random weights are more easily upset than trained ones
    assert turned["abstained"] is None
    box = pipe(PHOTO, boxes=[upright["box"]])[0]
    assert abs(box["roll_degrees"] - upright["roll_degrees"]) <= 5
    assert pipe(PHOTO, detect=False)[0]["roll_degrees"] is None


def test_unsure_of_gender():
    [face] = make_pipe(gender_threshold=1.0)(PHOTO)
    assert face["gender"] == "unsure"
    assert set(face["genders"]) == {"male", "female"}
    assert face["abstained"] is None


def test_cascade(pipe: AgeGenderPipeline):
    faces = pipe(PHOTO, detector="haar")
    assert len(faces) == 1
    assert faces[0]["detection_score"] is None


def test_least_score(pipe: AgeGenderPipeline):
    assert pipe(PHOTO, min_score=0.99) == []


def test_cascade_steps_in_where_yunet_is_missing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(pipeline_age_gender, "YUNET_FILE", "absent.onnx")
    monkeypatch.setattr(pipeline_age_gender.logger, "propagate", True)
    monkeypatch.setattr(pipeline_age_gender.logger.parent, "propagate", True)
    pipe = make_pipe()
    assert "OpenCV's cascade finds the faces" in caplog.text
    assert close(pipe(PHOTO), pipe(PHOTO, detector="haar"))
    with pytest.raises(FileNotFoundError, match="detector='haar'"):
        pipe(PHOTO, detector="yunet")


def test_other_backbone_precision(pipe: AgeGenderPipeline):
    low = AgeGenderPipeline(
        model=tiny_model().to(torch.bfloat16), image_processor=make_image_processor(IMAGE_SIZE), device="cpu"
    )
    assert len(low(GROUP)) == 20


def test_saved_again_into_another_folder_and_its_own(pipe: AgeGenderPipeline, tmp_path: Path):
    save_model_folder(pipe.model, pipe.image_processor, tmp_path)
    pipe.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(
            "backbones.py",
            "cascade_detection.py",
            "configuration_age_gender.py",
            "configuration_checks.py",
            "dataset_inputs.py",
            "decoding_age_gender.py",
            "decoding_limits.py",
            "errors.py",
            "exported_age_gender.py",
            "face_alignment.py",
            "face_detection.py",
            "face_network.py",
            "face_orientation.py",
            "face_search.py",
            "forked_processes.py",
            "image_colours.py",
            "image_decoding.py",
            "image_formats.py",
            "image_loading.py",
            "losses_age_gender.py",
            "model_files.py",
            "network_limits.py",
            "prepared_faces.py",
            "handler.py",
            "requirements.txt",
        ),
        *("modeling_age_gender.py", "pipeline_age_gender.py", YUNET_FILE),
        *("config.json", "model.safetensors", "preprocessor_config.json"),
    }
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["custom_pipelines"]["age-gender-classification"]["impl"] == "pipeline_age_gender.AgeGenderPipeline"
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel"}
