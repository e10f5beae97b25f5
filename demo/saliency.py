"""Where the model looked: the pixels of a face whose change would move its answer most."""

import cv2
import numpy as np
import torch

from model.modeling_age_gender import AgeGenderModel


NOISY_COPIES, NOISE = 8, 0.15  # SmoothGrad; the noise in units of the normalised picture
BLUR = 1 / 28  # of the crop's side: finer detail is noise of the gradient, not of the face


def looked_at(model: AgeGenderModel, pixel_values: torch.Tensor) -> dict[str, np.ndarray]:
    """Maps for one face, "age" and "gender", each (S, S) from 0 to 1.

    Gradient times input, averaged over noisy copies (Smilkov et al., "SmoothGrad", 2017), of the expected age and of the
    difference between the genders.

    Args:
        pixel_values: (3, S, S), as the pipeline's `preprocess` returns them for one face.
    """
    generator = torch.Generator().manual_seed(0)  # the same face gets the same map
    noise = NOISE * torch.randn(NOISY_COPIES, *pixel_values.shape, generator=generator)
    copies = (pixel_values + noise).to(model.device, model.dtype).requires_grad_()
    with torch.enable_grad():
        output = model(copies)
        years = torch.arange(output.age_logits.shape[1], device=model.device)
        answers = {
            "age": (output.age_logits.softmax(dim=1) * years).sum(),
            "gender": (output.gender_logits[:, 0] - output.gender_logits[:, 1]).sum(),
        }
        gradients = {
            name: torch.autograd.grad(answer, copies, retain_graph=True)[0] for name, answer in answers.items()
        }
    return {name: _to_map((gradient * copies).detach()) for name, gradient in gradients.items()}


def heat_over(crop_rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 and (S, S) from 0 to 1 -> the crop in grey, brightly coloured where the map is high."""
    grey = np.repeat(crop_rgb.mean(axis=2, keepdims=True), 3, axis=2)
    colours = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.clip(0.55 * grey + 0.75 * colours * heat[..., None] ** 0.5, 0, 255).astype(np.uint8)


def _to_map(contributions: torch.Tensor) -> np.ndarray:
    """(copies, 3, S, S) -> (S, S), blurred and scaled to 1 at its brightest."""
    heat = contributions.mean(dim=0).abs().sum(dim=0).float().cpu().numpy()
    heat = cv2.GaussianBlur(heat, (0, 0), BLUR * len(heat))
    return heat / max(float(heat.max()), 1e-9)
