"""The auxiliary head that learns another network's embeddings, and the file that they come from."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open

from model.modeling_age_gender import AgeGenderModel
from tests.support.tiny_model import tiny_model
from tests.support.training_runs import EVERY_FIVE_STEPS, arguments, losses, record_of
from trainer.distillation.embeddings import (
    AgeGenderEmbeddingModel,
    embedding_loss,
    read_embedding_sets,
    read_embeddings,
)
from trainer.distillation.teachers import SoftTargets
from trainer.recipe import RecipeError
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def embeddings_file(faces, tmp_path_factory):
    """Six numbers for each face of the tests' set but the first; they follow from its labels."""
    names = sorted(path.name for path in faces.iterdir())[1:]
    labels = np.array([[float(part) for part in name.split("_")[:2]] for name in names])
    values = labels @ np.random.default_rng(0).normal(size=(2, 6))
    path = tmp_path_factory.mktemp("embeddings") / "embeddings.npz"
    np.savez(path, **{"faces": values.astype(np.float16), "faces_names": np.array(names, dtype="S")})
    return path


@pytest.fixture(scope="module")
def trained(faces, embeddings_file, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("outputs") / "run"
    main(arguments(faces, output_dir, "--embeddings", str(embeddings_file), *EVERY_FIVE_STEPS))
    return output_dir


def weights_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_only_checkpoints_hold_the_head(trained):
    checkpoint = trained.with_name("run.checkpoints") / "checkpoint-35"
    assert weights_of(checkpoint) == weights_of(trained) | {"embedding_head.weight", "embedding_head.bias"}
    model, loading = AgeGenderModel.from_pretrained(trained, output_loading_info=True)
    assert not any(loading.values())
    assert not hasattr(model.config, "embedding_size")


def test_the_head_learns(trained):
    entries = [entry for entry in record_of(trained)["log_history"] if "learning_rate" in entry]
    errors = [entry["loss"] - entry["age_loss"] - entry["gender_loss"] for entry in entries]
    assert errors[0] == pytest.approx(1, rel=0.5)  # standardised, nothing learnt yet
    assert np.mean(errors[-5:]) < 0.7 * errors[0]


def test_a_resumed_run_ends_with_the_same_weights(trained, faces, embeddings_file, tmp_path):
    checkpoint = trained.with_name("run.checkpoints") / "checkpoint-35"
    shutil.copytree(checkpoint, tmp_path / "run.checkpoints" / checkpoint.name)
    again = ["--embeddings", str(embeddings_file), *EVERY_FIVE_STEPS, "--resume_from_checkpoint", "true"]
    main(arguments(faces, tmp_path / "run", *again))
    assert losses(record_of(tmp_path / "run")) == losses(record_of(trained))


def test_the_head_changes_no_answer():
    model = tiny_model()
    with_head = AgeGenderEmbeddingModel.around(model, size=6, loss_weight=2)
    pixel_values = torch.rand(4, 3, model.config.image_size, model.config.image_size)
    labels = {"age_labels": torch.tensor([3, 30, 60, -100]), "gender_labels": torch.tensor([0, 1, -100, 1])}
    for plain, headed in ((model.eval(), with_head.eval()), (model.train(), with_head.train())):
        expected, got = plain(pixel_values, **labels), headed(pixel_values, **labels, embeddings=torch.ones(4, 6))
        torch.testing.assert_close(got.age_logits, expected.age_logits)
        assert (got.loss > expected.loss) == headed.training


def test_faces_without_an_embedding_do_not_count():
    predicted = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    embeddings = torch.tensor([[0.0, 0.0], [float("nan")] * 2])
    assert embedding_loss(predicted, embeddings) == 5  # (1 + 9) / 2
    assert embedding_loss(predicted, torch.full((2, 2), float("nan"))) == 0


def test_embeddings_are_found_by_set_and_name_and_standardised(tmp_path):
    names = np.array([b"1.jpg", b"2.jpg"])
    first, second = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[4.0, 5.0], [6.0, 8.0]])
    np.savez(tmp_path / "two.npz", A=first, A_names=names, B=second, B_names=np.array([b"2.jpg", b"3.jpg"]))
    found = read_embeddings(tmp_path / "two.npz", ["A/1.jpg", "x/B/train/2.jpg", "3.jpg", "2.jpg", "B/1.jpg"])
    expected = np.array([[0.0, 1.0], [4.0, 5.0], [6.0, 8.0], [np.nan, np.nan], [0.0, 1.0]])
    known = [0, 1, 2, 4]
    expected = (expected - expected[known].mean(axis=0)) / expected[known].std(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # 2.jpg of no set may be either


def array_bytes(shape: tuple[int, ...]) -> bytes:
    """An .npy file that claims this shape of float16 and holds 16 numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(32)


@pytest.mark.parametrize("read", [read_embedding_sets, SoftTargets.load])
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"A.npy": array_bytes((10**12,))}, "A.npy claims 2,000,000,000,000 bytes and holds 32"),
        ({"A.npy": array_bytes((15,))}, "A.npy claims 30 bytes and holds 32"),
        (
            {f"{name}.npy": bytes(10**7) for name in range(10)},
            "its arrays have 100,000,000 bytes, and no more than 1,000,000",
        ),
        ({"A.npy": b"PK"}, "cannot be read|holds no soft targets"),
        ({}, "names no set|holds no soft targets"),
    ],
    ids=["claims a lot", "of another size", "becomes a lot", "no array", "nothing"],
)
def test_files_that_become_more_than_they_are(read, members, message, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.distillation.embeddings.MAX_ARRAY_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(RecipeError, match=message):
        read(tmp_path / "arrays.npz")


@pytest.mark.parametrize("read", [read_embedding_sets, SoftTargets.load])
def test_a_damaged_byte_is_an_error_of_the_recipe_at_most(read, tmp_path):
    """One byte anywhere: in an array, in a header, or in what says how the archive is packed."""
    values = np.random.default_rng(0).random((4, 3))
    probs = (values / values.sum(axis=1, keepdims=True)).astype(np.float16)
    names = np.array([b"1.jpg", b"2.jpg", b"3.jpg", b"4.jpg"])
    description = json.dumps({"gender_names": ["a", "b", "c"], "teachers": []})
    soft = {"pictures": names, "age_probs": probs, "gender_probs": probs, "description": np.array(description)}
    np.savez_compressed(tmp_path / "whole.npz", A=probs, A_names=names, **soft)
    whole, damaged, refused = (tmp_path / "whole.npz").read_bytes(), tmp_path / "damaged.npz", 0
    read(tmp_path / "whole.npz")
    for at in range(len(whole)):
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read(damaged)
        except RecipeError:
            refused += 1
    assert refused > len(whole) / 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "cannot be read"),
        ({"x": np.zeros((2, 3))}, "names no set"),
        ({"A": np.zeros((2, 3)), "A_names": np.array([b"1.jpg"])}, "has 1 names in A_names and an array A of shape"),
        ({"A_names": np.array([b"1.jpg"])}, "cannot be read"),
        ({"A": np.zeros((1, 3)), "A_names": np.array([b"other.jpg"])}, "has none for 190 of 190 training pictures"),
    ],
)
def test_files_that_cannot_be_used(faces, tmp_path, arrays, message):
    path = tmp_path / "embeddings.npz"
    if arrays is not None:
        np.savez(path, **arrays)
    with pytest.raises(RecipeError, match=message):
        main(arguments(faces, tmp_path / "run", "--embeddings", str(path)))
