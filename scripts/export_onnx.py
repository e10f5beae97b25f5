"""Export a model to ONNX, and compare the file with the model before it is put in place.

    python -m scripts.export_onnx --model model --int8 --dataset UTKFace.tar.gz

writes model/onnx/model.onnx and model_int8.onnx, with the input pixel_values (batch, 3, image_size, image_size) and the
outputs age_logits, age_range_logits and gender_logits, and model/onnx/comparison.json: how the scores of each file differ
from the model's on those faces. `--web` writes model_web.onnx, which browsers run (see scripts.export_web), and `--fp32 false`
leaves out model.onnx. The card shows them: write it again with model_card.card before pushing. Needs onnx,
onnxscript and onnxruntime (requirements-dev.txt).
"""

import sys
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from scripts.command import errors_explained
from trainer.onnx.export import ExportArguments, FaceArguments, export_onnx
from trainer.recipe import parse_recipe


def main() -> None:
    disable_progress_bar()
    args, face_args = parse_recipe(sys.argv[1:], (ExportArguments, FaceArguments))
    print("Written:", *export_onnx(args, face_args))
    if args.output_dir is None and Path(args.model, "README.md").is_file():
        print(f"Show it on the card: python -m model_card.card {args.model}")


if __name__ == "__main__":
    with errors_explained():
        main()
