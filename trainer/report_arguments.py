"""What a run does with its model after training."""

import logging
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from datasets import Dataset

from trainer.recipe import RecipeError


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
logger = logging.getLogger(__name__)


@dataclass
class ReportArguments:
    """What happens after training."""

    gender_target_accuracy: float = field(
        default=0.95,
        metadata={
            "help": "Share of given gender answers that should be right: the lower end of its interval reaches this on "
            "validation; the rest is 'unsure'."
        },
    )
    report: bool = field(
        default=True, metadata={"help": "Measure on the test split, draw the figures and write the model card."}
    )
    onnx: bool | None = field(
        default=None,
        metadata={
            "help": "Also export to ONNX, fp32 and int8, and show on the card what either costs on the test split; "
            "together with push_to_hub unless told otherwise."
        },
    )

    def check_labels(self, test: Dataset) -> None:
        """
        Raises:
            RecipeError: the card states the errors of both heads, and the test split cannot tell them.
        """
        genders, ages = np.array(test["gender"]), np.array(test["age"])
        missing = [name for name, labels in (("genders", genders), ("exact ages", ages)) if not (labels >= 0).any()]
        if self.report and missing:
            raise RecipeError(
                f"The test split has no {' and no '.join(missing)}, so no card can be written. Add --report false, and "
                "measure what there is with scripts.evaluate_model."
            )

    def writes_onnx(self, pushes: bool) -> bool:
        """Asked before the training, so that nothing is found missing after it. `pushes`: the model goes to the Hub.

        Raises:
            RecipeError: asked for, without the packages for it or without a report to stand in.
        """
        if self.onnx and not self.report:
            raise RecipeError(
                "onnx: true compares the files on the test split for the report: leave out report: false."
            )
        missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
        if self.onnx and missing:
            raise RecipeError(f"onnx: true needs {', '.join(missing)}: pip install -r requirements-dev.txt")
        if self.onnx is None and pushes and self.report and missing:
            logger.warning(
                f"The model will be pushed without ONNX files: they need {', '.join(missing)} (pip install -r "
                "requirements-dev.txt)."
            )
        return bool(self.onnx if self.onnx is not None else pushes and self.report and not missing)
