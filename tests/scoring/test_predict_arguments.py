"""The command line of `python -m scripts.predict`, and its error messages."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from scoring.output import Parts
from scoring.run import OptionError, ScoringOptions, load_scorer, settings_of
from scripts.predict import read_arguments
from tests.support.made_up_faces import draw_face
from tests.support.tiny_model import save_tiny_model


@pytest.mark.parametrize("option", ["--workers", "--batch-size", "--part-size"])
def test_numbers_below_one_are_refused(option):
    with pytest.raises(OptionError, match=r"Expected --batch-size, --part-size and --workers of 1 or more\."):
        read_arguments(["photos", option, "0"])


def test_options_can_be_written_as_the_trainers():
    hyphens = ["--model-revision=v1", "--age-ranges=4 bins", "--image-column=photo", "--dataset-revision=v2"]
    hyphens += ["--frames-per-second=2", "--onnx-file=model.onnx", "--batch-size=8", "--part-size=9"]
    underscores = [word.replace("-", "_").replace("__", "--") for word in hyphens]
    assert read_arguments(["photos", *underscores]) == read_arguments(["photos", *hyphens])


def test_names_and_values_keep_their_underscores():
    options = read_arguments(["--part_size", "9", "--model=my_model", "--onnx_file", "a_b.onnx", "--", "--my_face.jpg"])
    assert options == ScoringOptions(["--my_face.jpg"], model="my_model", onnx_file="a_b.onnx", part_size=9)


def test_what_is_not_given_has_the_defaults_of_a_run():
    assert read_arguments(["photos"]) == ScoringOptions(["photos"])


def test_parts_that_are_missing_end_with_a_sentence(tmp_path: Path, monkeypatch):
    """As where somebody cleared the folder while it was filled."""
    save_tiny_model(tmp_path / "tiny")
    draw_face(30, 0, seed=0).save(tmp_path / "face.jpg")
    arguments = [tmp_path / "face.jpg", "--model", tmp_path / "tiny", "--output", tmp_path / "faces.csv", "--crops"]
    monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
    monkeypatch.setattr(Parts, "write", lambda self, part, rows: list(rows))
    monkeypatch.delitem(sys.modules, "scripts.predict")  # which is to run as the program
    with pytest.raises(SystemExit, match=r"^error: .*cannot be .* read: .*part-000000.*start the same command"):
        runpy.run_module("scripts.predict", run_name="__main__")


@pytest.mark.parametrize(
    ("has", "given", "dtype"),
    [
        ({"amx_bf16": True}, [], torch.bfloat16),
        ({"avx512_bf16": True}, [], torch.bfloat16),
        ({}, [], torch.float32),
        ({"amx_bf16": True}, ["--no-bf16"], torch.float32),
        ({}, ["--bf16"], torch.bfloat16),
    ],
)
def test_bf16_is_the_default_where_the_processor_has_it(saved_tiny_model, monkeypatch, has, given, dtype):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)
    model, scorer = load_scorer(read_arguments(["photos", "--model", str(saved_tiny_model), "--device", "cpu", *given]))
    assert model.dtype == dtype
    assert settings_of(ScoringOptions(["photos"]), model, scorer)["bf16"] == (dtype == torch.bfloat16)


def test_other_accelerators_compute_in_single_precision_unless_asked():
    assert not read_arguments(["photos"]).computes_in_bf16("mps")
    assert read_arguments(["photos", "--bf16"]).computes_in_bf16("mps")


def test_an_onnx_file_has_its_own_precision(monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    assert not read_arguments(["photos", "--onnx-file", "onnx/model.onnx"]).computes_in_bf16("cpu")
    with pytest.raises(OptionError, match="An ONNX file has its own precision"):
        read_arguments(["photos", "--onnx-file", "onnx/model.onnx", "--bf16"])
