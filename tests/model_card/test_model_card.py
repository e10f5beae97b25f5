"""The card: its whole text, what it says of other runs, and when it is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import ResNetConfig

from model_card.card import CardError, card_facts, render_card
from model_card.requirements import sha256
from tests.support.made_up_run import RUN, change, made_up_metrics
from tests.support.tiny_model import save_tiny_model


EXPECTED = Path(__file__).with_name("expected_card.md")


def test_whole_text(finished_run, tmp_path):
    digest = sha256(finished_run / "model.safetensors")[
        :12
    ]  # of random weights, which differ between versions of torch
    text = render_card(finished_run, "user/age-gender", "v1").replace(digest, "0" * 12)
    (tmp_path / "card.md").write_text(text, encoding="utf-8")
    hint = f"if the change is meant, copy {tmp_path / 'card.md'} over {EXPECTED}"
    assert text == EXPECTED.read_text(encoding="utf-8"), hint


@pytest.mark.parametrize(
    "backbone",
    [{}, {"stem_channels": None, "backbone_config": ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])}],
    ids=["a ViT behind a stem", "a ResNet"],
)
def test_parameters_are_counted_as_torch_does(tmp_path, backbone):
    model = save_tiny_model(tmp_path, **backbone)
    assert card_facts(tmp_path, RUN)["parameters"] == model.num_parameters()


def test_metadata_holds_each_headline_figure_with_its_interval(finished_run, tmp_path):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    (tmp_path / "README.md").write_text(render_card(finished_run))
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.license_name) == ("other", "utkface-non-commercial-research")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-classification")
    assert data.datasets == ["nu-delta/utkface"]
    results = {result.metric_name: result for result in data.eval_results}
    mae = metrics["age"]["mae"]
    assert results["Age, mean absolute error (years)"].metric_value == mae["value"]
    assert results["Age, mean absolute error (years)"].metric_args == {name: mae[name] for name in ("low", "high", "n")}
    assert len(results) == 4 + 2 * len(metrics["age_ranges"])
    for result in results.values():
        assert (result.dataset_name, result.dataset_type, result.dataset_split) == ("UTKFace", "UTKFace.tar.gz", "test")
        assert result.dataset_args == {"split_seed": 0, "splits_sha256": "a0b1"}


def test_python_snippets_are_python(finished_run):
    snippets = re.findall(r"```python\n(.*?)```", render_card(finished_run, "user/repo", "v1"), flags=re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        compile(snippet, "card", "exec")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "google/vit-base-patch16-224-in21k",
            "initialised from [google/vit-base-patch16-224-in21k](https://huggingface.co/",
        ),
        ("outputs/pretrained", "initialised from `outputs/pretrained`"),
        (None, "trained from random weights"),
    ],
)
def test_where_the_backbone_came_from(run, name, shown):
    change(run / "training_run.json", arguments=RUN["arguments"] | {"backbone": name})
    text = render_card(run)
    assert shown in text
    assert ("base_model: " in text) == (name is not None and name.startswith("google/"))


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (None, "which was chosen on the validation split: the lowest at which"),  # a record of an earlier version
        ({"prior": 0.5, "alone": 0.7, "weight": 1.0}, "which was chosen on the validation split: the lowest at which"),
        (
            {"prior": 0.7, "alone": None, "weight": 0.0},
            "kept from `user/repo`, which it was fine-tuned from: the 6 valid",
        ),
        (
            {"prior": 0.6, "alone": None, "weight": 1.0},
            "which was raised from 0.600 as far as the 6 validation faces show",
        ),
    ],
    ids=["no record of it", "proved", "kept", "raised"],
)
def test_where_the_threshold_came_from(run, evidence, sentence):
    calibration = RUN["calibration"] | {"prior": "user/repo"}
    if evidence:
        calibration["evidence"] = {"gender_threshold": evidence | {"faces": 6, "faces_needed": 500}}
    else:
        del calibration["evidence"], calibration["prior"]
    change(run / "training_run.json", calibration=calibration)
    text = render_card(run)
    assert sentence in text
    assert ("| `gender_threshold` | 0.700 |" in text) == (evidence is not None)


def test_a_fine_tuned_model_carries_the_terms_of_what_it_was_fine_tuned_from(run):
    seen = [{"dataset": f"{name}.tar.gz", "splits_sha256": name} for name in ("UTKFace", "FairFace")]
    start = {"model": "faces-base", "revision": None, "trained_on": seen, "seconds": 1200}
    change(
        run / "training_run.json",
        arguments=RUN["arguments"] | {"dataset": "mine"},
        recipe_text="",
        started_from=start,
        data=RUN["data"]
        | {"also_trained_on": [{"dataset": "theirs", "splits_sha256": "f", "splits": {"train": 1500, "test": 90}}]},
    )
    change(run / "metrics.json", dataset="mine")
    text = render_card(run)
    assert "had been trained on UTKFace.tar.gz, FairFace.tar.gz, split in another way. Some of the pictures" in text
    assert "after 20.0 minutes for the model it was fine-tuned from" in text
    assert "fine-tuned from `faces-base`" in text
    assert "utkface-non-commercial-research" in text
    assert "HuggingFaceM4/FairFace" in text
    assert "test faces of mine" in text
    assert "theirs: 1,500 more faces for training" in text


def test_a_second_run_on_the_same_splits_has_seen_nothing_it_is_measured_on(run):
    seen = [{"dataset": "UTKFace.tar.gz", "splits_sha256": RUN["data"]["splits_sha256"]}]
    start = {"model": "faces-base", "revision": None, "trained_on": seen, "seconds": None}
    change(run / "training_run.json", started_from=start)
    assert "may have been among its training pictures" not in render_card(run)


def test_another_data_set_brings_other_terms(run):
    change(run / "training_run.json", arguments=RUN["arguments"] | {"dataset": "faces"}, recipe_text="")
    change(run / "metrics.json", dataset="faces")
    text = render_card(run)
    assert "utkface" not in text.lower()
    assert "license: other" in text


def test_a_set_that_an_earlier_recipe_only_names_brings_no_terms(run):
    """The command line had put another one in its place."""
    start = {
        "model": "base",
        "revision": None,
        "trained_on": [{"dataset": "faces", "splits_sha256": "0"}],
        "seconds": 9,
    }
    start["record"] = {"command": "... --dataset faces", "recipe_text": "dataset: nu-delta/utkface", "log_history": []}
    arguments = RUN["arguments"] | {"dataset": "faces"}
    change(run / "training_run.json", arguments=arguments, recipe_text="", started_from=start)
    change(run / "metrics.json", dataset="faces")
    (run / "README.md").write_text(text := render_card(run))
    data = ModelCard.load(run / "README.md").data
    assert (data.license, data.get("license_name"), data.datasets) == ("other", None, [])
    assert "dataset: nu-delta/utkface" in text  # in the folded recipe of the model it was fine-tuned from


def test_external_test_sets_are_shown(run):
    external = made_up_metrics("") | {"split": "all", "pictures_without_detected_face": 12, "dataset": "fairface"}
    external["held_out_of_training"] = False
    seen = external | {"held_out_of_training": True}
    change(run / "metrics.json", outside={"FairFace validation": external, "FairFace test": seen})
    text = render_card(run)
    assert text.count("used neither to train nor to choose the model") == 1
    assert text.count("held out when the model was trained on other pictures of that set") == 1
    assert "### External test set: FairFace validation" in text
    assert "In 12 of them no face was detected" in text


def test_the_target_of_abstaining_stands_beside_what_it_gave(run):
    external = made_up_metrics("") | {"split": "all", "dataset": "fairface", "held_out_of_training": False}
    external["gender"]["abstention"]["accuracy"] = {"value": 0.91, "low": 0.9, "high": 0.92, "n": 500}
    change(
        run / "metrics.json",
        outside={
            "FairFace": external,
            "ages only": {name: part for name, part in external.items() if name != "gender"},
        },
    )
    given = external["gender"]["abstention"]
    text = render_card(run)
    assert f"| FairFace | 96 | {_percent(given['answered'])} | 91.0 [90.0, 92.0] |" in text
    assert "| test split | 96 | " in text
    assert "| ages only | 96 |" not in text


def test_an_external_test_set_is_shown_beside_its_baseline_in_comparable_range_sets(run):
    """A third of the faces fit into no single range of one set, and all that fit into another are of one range."""
    external = made_up_metrics("") | {"split": "all", "dataset": "fairface", "held_out_of_training": False}
    for name, n in (("DIT825-5", 400), ("14 ranges", 42)):
        external["age_ranges"][name]["accuracy"]["n"] = n
    for row in external["age_ranges"]["14 ranges"]["classes"][1:]:
        row["n"] = 0
    for row in external["age_ranges"]["4 bins"]["classes"][1:]:
        row["n"] = 0
    change(run / "metrics.json", outside={"FairFace": external})
    text = render_card(run)
    shown = text[text.index("### External test set") : text.index("## Limits")]
    assert "are not shown: DIT825-5, 14 ranges, 4 bins." in shown
    assert "age range accuracy, 14 ranges" not in shown
    rows = re.findall(
        r"^\| age range accuracy, FairFace-9 \(%\) \| [\d.]+ \[.*?\] \| (.*) \| 600 \|$", shown, re.MULTILINE
    )
    baseline = external["age_ranges"]["FairFace-9"]["baseline"]
    assert rows == [f"{_percent(baseline['accuracy'])} ({baseline['answer']})"]
    assert f"| {_percent(external['gender']['baseline']['accuracy'])} (" in shown
    assert "(31, the median age of the training split) | 600 |" in shown


def _percent(score: dict) -> str:
    value, low, high = (f"{100 * score[end]:.1f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


@pytest.mark.parametrize("name", ["metrics.json", "training_run.json", "config.json", "model.safetensors"])
def test_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(CardError, match=rf"- {name} is missing"):
        render_card(run)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("metrics.json", {"weights_sha256": "0" * 64}, "metrics.json holds figures of other weights"),
        ("metrics.json", {"split": "validation"}, "of the validation split"),
        ("metrics.json", {"groups": None}, "metrics.json does not say 'groups'"),
        ("metrics.json", {"calibration": None}, "metrics.json does not say 'calibration'"),
        ("training_run.json", {"hardware": None}, "training_run.json does not say 'hardware'"),
        ("onnx/comparison.json", {"weights_sha256": "0" * 64}, "onnx/ holds an export of other weights: run"),
        ("onnx/comparison.json", {"pictures": 0}, "does not say what the export costs on faces"),
        ("onnx/comparison.json", {"files": {}}, "onnx/model.onnx is not the file that onnx/comparison.json was"),
    ],
)
def test_refusals(run, file, values, message):
    change(run / file, **values)
    with pytest.raises(CardError, match=re.escape(message)):
        render_card(run)


def test_an_onnx_file_without_its_comparison_is_refused(run):
    (run / "onnx" / "comparison.json").unlink()
    with pytest.raises(CardError, match=r"onnx/comparison\.json, which says what the ONNX files were made from"):
        render_card(run)


def test_without_onnx_files_the_card_does_not_speak_of_them(run):
    shutil.rmtree(run / "onnx")
    card = render_card(run).replace('"onnxruntime>=', "")  # which the face detector runs on
    assert "onnx" not in card.lower()


def test_missing_learning_curves_are_named(run):
    (run / "figures" / "learning_curves.png").unlink()
    with pytest.raises(CardError, match=r"learning_curves\.png is missing: run python -m scripts\.evaluate_model"):
        render_card(run)


@pytest.mark.parametrize(
    ("unlabelled", "left_out", "kept"),
    [
        ({"gender"}, ("gender",), ("### Age", "mean absolute error")),
        ({"exact ages"}, ("age in years",), ("### Age", "### Gender", "age range accuracy")),
        ({"exact ages", "ages"}, ("age in years", "age range"), ("### Gender", "gender accuracy")),
    ],
)
def test_what_no_label_could_measure_is_said_and_not_shown(run, unlabelled, left_out, kept):
    metrics = made_up_metrics(sha256(run / "model.safetensors"), unlabelled=unlabelled)
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = render_card(run, "user/faces")
    assert f"**Not measured: {', '.join(left_out)}.** The test faces have no such labels." in text
    assert all(words in text for words in kept)
    assert ("### Gender" in text) == ("gender" not in unlabelled)
    assert ("### Age" in text) == ("ages" not in unlabelled)
    assert ("mean absolute error (years) | " in text.split("## Architecture")[0]) == ("exact ages" not in unlabelled)
    assert "\n\n\n\n" not in text


def test_a_card_needs_labels_of_one_head(run):
    change(run / "metrics.json", age=None, age_ranges=None, gender=None)
    with pytest.raises(CardError, match="holds no score of either head: the test faces have no labels"):
        render_card(run)
