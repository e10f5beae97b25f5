"""Which files of a model folder, or of a repository on the Hub, the demo reads."""

from model.face_detection import YUNET_FILE


# No .py: the demo runs the classes beside it, never code from elsewhere.
MODEL_FILES = ["*.json", "*.safetensors", YUNET_FILE, "README.md", "figures/*"]
REQUIRED_FILES = ["config.json", "preprocessor_config.json"]
