"""Measure a model on labelled faces: `metrics.json` and figures in its folder, and a table to read.

    python -m scripts.evaluate_model --model model --dataset UTKFace.tar.gz --split test

Figures of every picture of a set that the model was neither trained nor chosen on are added to those (or, with
`--split test`, of the held-out part of a further set that it was trained on):

    python -m scripts.evaluate_model --model model --dataset photos/ --split all --outside "my photos" --detect

`accelerate launch -m scripts.evaluate_model ...` shares the pictures among several processes.
"""

import sys

from transformers import HfArgumentParser

from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model


if __name__ == "__main__":
    parser = HfArgumentParser([EvaluationArguments, DataArguments], allow_abbrev=False, description=__doc__)
    try:
        evaluate_model(*parser.parse_args_into_dataclasses())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
