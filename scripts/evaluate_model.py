"""Evaluate a model on labelled faces: write metrics.json and figures into its folder, and print a report.

    python -m scripts.evaluate_model --model model --dataset UTKFace.tar.gz --split test

With `--external` it adds the scores on an external test set to those of the model's own test split. The model must not have
been trained or chosen on that set (`--split all`), or on its training split only (`--split test`):

    python -m scripts.evaluate_model --model model --dataset photos/ --split all --external "my photos" --detect

`accelerate launch -m scripts.evaluate_model ...` shares the pictures among several processes.
"""

import sys

from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.recipe import parse_recipe


if __name__ == "__main__":
    with errors_explained():
        evaluate_model(*parse_recipe(sys.argv[1:], (EvaluationArguments, DataArguments)))
