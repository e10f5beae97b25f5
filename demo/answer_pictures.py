"""Pictures inside an answer, as data URLs, so that no file is written for them: the preview, and saliency maps by SmoothGrad,
which show the pixels of a face that would change the predicted age or gender most.
"""

import base64
import io
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from model.prepared_faces import PreparedFaces


PREVIEW_SIDE = 1600  # pixels of the longer side

MAX_SALIENCY_MAPS = 8  # faces of a picture that get maps: a face with maps takes as long as sixteen without
NOISY_COPIES, NOISE = 8, 0.15  # of SmoothGrad; the standard deviation in units of the normalised pixels
BLUR = 1 / 28  # of the crop's side; finer detail is noise of the gradient


def preview(picture: Image.Image) -> Image.Image:
    """A copy of at most `PREVIEW_SIDE` pixels."""
    copy = picture.copy()
    copy.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2)
    return copy


def data_url(picture: Image.Image) -> str:
    """A JPEG as text."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def add_saliency_maps(
    model: PreTrainedModel, prepared: PreparedFaces, faces: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Copies of the pipeline's answers; the first `MAX_SALIENCY_MAPS` that have one get `saliency_maps`.

    `saliency_maps`: "age" and "gender" -> the face in grey with its map in colour, as a data URL.
    """
    faces = list(faces)
    answered = [index for index, face in enumerate(faces) if not face["abstained"]]
    for index in answered[:MAX_SALIENCY_MAPS]:
        crop, maps = prepared.crops[index], saliency_maps(model, prepared.pixel_values[index])
        pictures = {name: data_url(Image.fromarray(colour_by_map(crop, heat))) for name, heat in maps.items()}
        faces[index] = {**faces[index], "saliency_maps": pictures}
    return faces


def saliency_maps(model: PreTrainedModel, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Maps for one face, "age" and "gender", each (S, S) from 0 to 1.

    Gradient times input, averaged over noisy copies (Smilkov et al., "SmoothGrad", 2017, https://arxiv.org/abs/1706.03825),
    of the expected age and of the difference between the gender logits.

    Args:
        pixel_values: (3, S, S), as the pipeline's `preprocess` returns them for one face.
    """
    generator = torch.Generator().manual_seed(0)  # the same face gets the same map
    noise = NOISE * torch.randn(NOISY_COPIES, *pixel_values.shape, generator=generator)
    copies = (pixel_values + noise).to(model.device, model.dtype).requires_grad_()
    with torch.enable_grad():
        output = model(copies)
        years = torch.arange(output.age_logits.shape[1], device=model.device)
        outputs = {
            "age": (output.age_logits.softmax(dim=1) * years).sum(),
            "gender": (output.gender_logits[:, 0] - output.gender_logits[:, 1]).sum(),
        }
        gradients = {name: torch.autograd.grad(value, copies, retain_graph=True)[0] for name, value in outputs.items()}
    return {name: _to_map((gradient * copies).detach()) for name, gradient in gradients.items()}


def colour_by_map(crop_rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 and (S, S) from 0 to 1 -> (S, S, 3) uint8: the crop in grey, brightly coloured where the map is high."""
    grey = np.repeat(crop_rgb.mean(axis=2, keepdims=True), 3, axis=2)
    colours = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.clip(0.55 * grey + 0.75 * colours * heat[..., None] ** 0.5, 0, 255).astype(np.uint8)


def _to_map(contributions: torch.Tensor) -> np.ndarray:
    """(copies, 3, S, S) -> (S, S), blurred and scaled to a maximum of 1."""
    heat = contributions.mean(dim=0).abs().sum(dim=0).float().cpu().numpy()
    heat = cv2.GaussianBlur(heat, (0, 0), BLUR * len(heat))
    return heat / max(float(heat.max()), 1e-9)
