"""Write a static site that runs a model in the visitor's browser: pictures and live camera, without a server behind it.

    python -m scripts.export_web --model model --output site/
    python -m http.server --directory site             # or any static host

The model is a folder or a Hub id, and needs onnx/model_web.onnx: `python -m scripts.export_onnx --web`. Cameras work on https
pages and on this computer only. `python -m scripts.deploy_space --static` puts the site on a Space.
"""

import argparse
from pathlib import Path

from demo.device_files import write_site
from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice, default_name
from model_card.output_files import only_writer
from scripts.command import errors_explained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a model folder or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub id")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; an earlier site in it is replaced")
    args = parser.parse_args()
    choice = ModelChoice(default_name(args.model), args.model, args.revision)
    with only_writer(args.output, "--output"):
        paths = write_site(find_model(choice), args.output)
    megabytes = sum((args.output / path).stat().st_size for path in paths) / 1e6
    print(f"{len(paths)} files, {megabytes:.1f} MB, in {args.output}: python -m http.server --directory {args.output}")


if __name__ == "__main__":
    with errors_explained():
        main()
