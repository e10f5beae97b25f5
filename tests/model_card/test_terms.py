"""The licence of weights: which one a run may name, and what its card says of it."""

import json

import pytest

from model_card.card import CardError, render_card
from model_card.run_record import license_problem, may_be_same, research_only_sets
from tests.support.training_runs import arguments
from trainer.recipe import RecipeError
from trainer.train import main


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"arguments": {"dataset": "FairFace-train-40k.tar.gz", "embeddings": "face_embeddings.npz"}}, []),
        ({"arguments": {"dataset": "nu-delta/utkface"}}, ["UTKFace"]),
        ({"arguments": {"also_train_on": [{"dataset": "APPA-REAL-train.tar.gz"}]}}, ["APPA-REAL"]),
        ({"arguments": {}, "started_from": {"trained_on": [{"dataset": "UTKFace.tar.gz"}]}}, ["UTKFace"]),
        ({"arguments": {}, "taught_by": [{"trained_on": [], "sources": ["It knows VGGFace2."]}]}, ["VGGFace2"]),
        ({"arguments": {"sources": ["A backbone (ImageNet, for research only)."]}}, ["ImageNet"]),
    ],
)
def test_sets_for_research_only_are_found_wherever_weights_learnt(run, expected):
    assert research_only_sets(run) == expected
    run["arguments"]["license"] = "cc-by-4.0"
    assert bool(license_problem(run)) == bool(expected)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("UTKFace.tar.gz", "nu-delta/utkface", True),
        ("FairFace-train-40k.tar.gz", "fairface", True),
        ("APPA-REAL-train.tar.gz", "appa-real-release", True),
        ("appa_real.zip", "APPA-REAL", True),
        ("faces", "faces", True),
        ("faces", "photographs", False),
        ("UTKFace.tar.gz", "FairFace.tar.gz", False),
    ],
)
def test_names_that_may_stand_for_the_same_pictures(one, other, expected):
    assert may_be_same(one, other) == may_be_same(other, one) == expected


def test_a_licence_that_the_sets_do_not_allow_is_refused_before_training(faces, tmp_path):
    words = [
        *arguments(faces, tmp_path / "run"),
        "--license",
        "cc-by-4.0",
        "--sources",
        "A backbone that knows UTKFace.",
    ]
    with pytest.raises(RecipeError, match=r"license: cc-by-4.0 is no licence for weights that learnt from UTKFace"):
        main(words)


def test_the_card_states_the_licence_and_no_card_states_a_wrong_one(finished_run):
    record = finished_run / "training_run.json"
    run = json.loads(record.read_text())
    for part in ("arguments", "data"):
        run[part] |= {"also_train_on": None, "also_trained_on": None}
    run["arguments"] |= {"license": "cc-by-4.0", "dataset": "FairFace-train-40k.tar.gz"}
    run |= {"started_from": None, "taught_by": None}
    record.write_text(json.dumps(run))
    text = render_card(finished_run)
    assert "license: cc-by-4.0\n" in text
    assert "any commercial use" not in text
    run["arguments"]["dataset"] = "UTKFace.tar.gz"
    record.write_text(json.dumps(run))
    with pytest.raises(CardError, match="UTKFace, whose terms allow non-commercial research only"):
        render_card(finished_run)
