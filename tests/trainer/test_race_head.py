import shutil

import pytest
import torch
from safetensors import safe_open

from model.modeling_age_gender import AgeGenderModel
from tests.support.made_up_faces import write_utkface_folder
from tests.support.tiny_model import tiny_model
from tests.support.training_runs import EVERY_FIVE_STEPS, arguments, losses, record_of
from trainer.race_head import AgeGenderRaceModel
from trainer.recipe import RecipeError
from trainer.train import main


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=240, size=48)


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("outputs") / "run"
    main(arguments(faces, output_dir, "--race_loss_weight", "0.5", *EVERY_FIVE_STEPS))
    return output_dir


def weights_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_only_checkpoints_hold_the_third_head(trained):
    last = max(trained.with_name("run.checkpoints").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    race_head = {"race_head.weight", "race_head.bias"}
    assert weights_of(last) == weights_of(trained) | race_head
    assert not weights_of(trained) & race_head
    _, loading = AgeGenderModel.from_pretrained(trained, output_loading_info=True)
    assert not any(loading.values())
    assert not list(trained.glob("race*"))


def test_the_third_loss_is_trained_on(trained):
    record = record_of(trained)
    first = next(entry for entry in record["log_history"] if "loss" in entry)
    of_race = (first["loss"] - first["age_loss"] - first["gender_loss"]) / 0.5
    assert of_race == pytest.approx(torch.tensor(5.0).log().item(), rel=0.2)  # five races, nothing learnt yet
    assert record["arguments"]["race_loss_weight"] == 0.5


def test_it_resumes_as_any_run_does(trained, faces, tmp_path):
    checkpoint = trained.with_name("run.checkpoints") / "checkpoint-35"
    shutil.copytree(checkpoint, tmp_path / "run.checkpoints" / checkpoint.name)
    again = ["--race_loss_weight", "0.5", *EVERY_FIVE_STEPS, "--resume_from_checkpoint", "true"]
    main(arguments(faces, tmp_path / "run", *again))
    assert losses(record_of(tmp_path / "run")) == losses(record_of(trained))


def test_the_third_head_changes_no_answer():
    torch.manual_seed(0)
    model = tiny_model()
    three_headed = AgeGenderRaceModel.around(model, race_loss_weight=2)
    pixel_values = torch.rand(4, 3, model.config.image_size, model.config.image_size)
    labels = {"age_labels": torch.tensor([3, 30, 60, -100]), "gender_labels": torch.tensor([0, 1, -100, 1])}
    races = torch.tensor([0, 4, -100, 2])
    for two, three in ((model.eval(), three_headed.eval()), (model.train(), three_headed.train())):
        expected, got = two(pixel_values, **labels), three(pixel_values, **labels, races=races)
        torch.testing.assert_close(got.age_logits, expected.age_logits)
        torch.testing.assert_close(got.gender_logits, expected.gender_logits)
        assert (got.loss > expected.loss) == three.training


def test_races_must_be_known(tmp_path):
    folder = write_utkface_folder(tmp_path / "faces", count=60)
    for path in folder.iterdir():
        age, gender, _, rest = path.name.split("_")
        path.rename(folder / f"{age}_{gender}_{rest}")
    with pytest.raises(RecipeError, match="race_loss_weight needs"):
        main(arguments(folder, tmp_path / "run", "--race_loss_weight", "1"))
    with pytest.raises(RecipeError, match="0 or more"):
        main(arguments(folder, tmp_path / "run", "--race_loss_weight=-1"))
