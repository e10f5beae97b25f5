"""The card says what taught the weights beside their data set, under which terms, and what the calibration gives on each set."""

import pytest

from model_card.card import render_card
from model_card.run_record import all_sources
from tests.support.made_up_run import RUN, change


DLIB = "The network of dlib (CC0), by its embeddings."
FACERES = "HSE_FaceRec_tf, from VGGFace2, for research only."


def learnt(model: str, *sources: str) -> dict:
    """As `trainer.finetuning.describe_trained` describes a model."""
    sets = [{"dataset": name, "splits_sha256": "0"} for name in ("UTKFace.tar.gz", "APPA-REAL-train.tar.gz")]
    return {"model": model, "trained_on": sets, "sources": list(sources), "seconds": 60, "record": None}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({}, []),
        ({"arguments": {"sources": [DLIB]}}, [DLIB]),
        ({"started_from": learnt("a", FACERES), "arguments": {"sources": [DLIB]}}, [DLIB, FACERES]),
        ({"taught_by": [learnt("a", FACERES), learnt("b", FACERES, DLIB)]}, [FACERES, DLIB]),
        ({"started_from": {"model": "of an older version"}, "taught_by": None}, []),
    ],
)
def test_sources_are_inherited(run, expected):
    assert all_sources({"arguments": {}} | run) == expected


def test_the_card_names_teachers_and_terms(run):
    arguments = {"sources": [DLIB], "distillation_weight": 0.7, "embeddings": "faces.npz", "embedding_loss_weight": 1.0}
    teachers = [learnt("big_teacher", FACERES)]
    change(run / "training_run.json", arguments=RUN["arguments"] | arguments, taught_by=teachers)
    card = render_card(run)
    assert "It also learnt to answer as this teacher does:" in card
    assert "| `big_teacher` | UTKFace.tar.gz, APPA-REAL-train.tar.gz |" in card
    assert f"- {DLIB}\n- {FACERES}" in card
    assert "of which 70 % with the teachers' probabilities in place of the labels" in card
    assert "1.0 x mean squared error of standardised embeddings (`faces.npz`)" in card
    assert "(https://chalearnlap.cvc.uab.cat/" in card


def test_what_the_calibration_gives_on_each_set(run):
    street = {"dataset": "street.tar.gz", "faces": 1200, "exact_ages": 0, "interval_coverage": None}
    by_set = [
        {"dataset": "UTKFace.tar.gz", "faces": 800, "exact_ages": 800, "interval_coverage": 0.8125}
        | {"gender_answered": 0.97, "gender_accuracy": 0.961},
        street | {"gender_answered": 0.9, "gender_accuracy": 0.95},
    ]
    change(run / "training_run.json", calibration=RUN["calibration"] | {"by_set": by_set})
    card = render_card(run)
    assert "| UTKFace.tar.gz | 800 | 81.2 | 97.0 | 96.1 |" in card
    assert "| street.tar.gz | 1,200 | - | 90.0 | 95.0 |" in card
    change(run / "training_run.json", calibration=RUN["calibration"] | {"by_set": by_set[:1]})
    assert "| set | faces |" not in render_card(run)
