"""Input attribution: gradients at the input, integrated gradients, changed ReLU rules, FullGrad, noise around methods.

The rules that change how ReLU is differentiated and the taps of FullGrad see functions as well as modules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_integer, check_interval
from cvkit.explain._maps import normalize_maps, per_sample, resize_maps
from cvkit.explain._method import InputMethod, Method, Traits, draw_normal, noise_generators, value_range
from cvkit.explain._operations import BiasTaps, ReLURule, check_python
from cvkit.explain._setup import Attribution
from cvkit.explain.activation import GradCAM

if TYPE_CHECKING:
    from cvkit.explain._call import Call

__all__ = [
    "Deconvnet",
    "FullGrad",
    "GuidedBackprop",
    "GuidedGradCAM",
    "InputXGradient",
    "IntegratedGradients",
    "Saliency",
    "SmoothGrad",
]


@dataclass(frozen=True)
class Saliency(InputMethod):
    """The gradient of the score with respect to the input. The raw map is its largest magnitude over the channels.

    ``M = max_c |dy / dx_c|``.

    References
    ----------
    Simonyan, Vedaldi, Zisserman, "Deep inside convolutional networks", arXiv:1312.6034, section 3.1.

    Examples
    --------
    >>> Saliency()
    Saliency()
    """

    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return the gradient."""
        return call.image_gradient, None


@dataclass(frozen=True)
class InputXGradient(InputMethod):
    """Input times gradient. The raw map is the signed sum over the channels.

    ``M = sum_c x_c * dy / dx_c``.

    References
    ----------
    Shrikumar et al., "Not just a black box", arXiv:1605.01713.

    Examples
    --------
    >>> InputXGradient()
    InputXGradient()
    """

    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return the product."""
        return call.image * call.image_gradient, None

    def reduce(self, attributions: Tensor) -> Tensor:
        """Return the signed sum over the channels."""
        return attributions.sum(1)


@dataclass(frozen=True)
class IntegratedGradients(InputMethod):
    r"""Integrated gradients along the straight way from a baseline, by Gauss-Legendre quadrature.

    ``a = (x - x0) * mean over t in [0, 1] of dy / dx at x0 + t (x - x0)``.

    Attributions sum to the score minus the baseline's; how far they are off is reported as `Explanation.delta`. The raw
    map is the signed sum over the channels.

    Parameters
    ----------
    steps : int, default 32
        Nodes of the quadrature.
    baseline : float or Tensor of shape (C, \*S) or (N, C, \*S), default 0.0
        Where the way starts.

    References
    ----------
    Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017, arXiv:1703.01365, Eq. (1).

    Examples
    --------
    >>> IntegratedGradients(steps=16)
    IntegratedGradients(steps=16, baseline=0.0)
    """

    steps: int = 32
    baseline: float | Tensor = 0.0

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, minimum=1)
        if not isinstance(self.baseline, Tensor):
            check_interval("baseline", self.baseline)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(normalize="abs", layered=False, gradient=False)

    def rows(self, start: int, stop: int, image: Tensor) -> IntegratedGradients:
        """Return the method for some of the samples of a batch: a baseline a sample is cut."""
        whole = isinstance(self.baseline, Tensor) and self.baseline.shape == image.shape
        return replace(self, baseline=self.baseline[start:stop]) if whole else self  # type: ignore[index]

    def _start(self, call: Call) -> Tensor:
        """Return the baseline, of the image's shape."""
        image = call.image
        if not isinstance(self.baseline, Tensor):
            return torch.full_like(image, self.baseline)
        if self.baseline.shape not in (image.shape, image.shape[1:]) and self.baseline.dim() > 0:
            raise ValueError(
                f"`baseline` must have shape {tuple(image.shape[1:])} or {tuple(image.shape)}; "
                f"got {tuple(self.baseline.shape)}"
            )
        return self.baseline.detach().to(image).expand_as(image)

    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return attributions and the gap of completeness."""
        image, start = call.image, self._start(call)
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        shares = [(float(node) + 1.0) / 2.0 for node in nodes]  # from [-1, 1] to [0, 1]
        block = call.copies_per_pass(image, most=32)
        total = torch.zeros_like(image, dtype=torch.promote_types(image.dtype, torch.float32))
        for first in call.setup.show(range(0, self.steps, block), math.ceil(self.steps / block)):
            some = range(first, min(first + block, self.steps))
            points = torch.stack([start + shares[k] * (image - start) for k in some])
            _, gradients = call.image_gradients(points)
            for k, gradient in zip(some, gradients, strict=True):
                total = total + (float(weights[k]) / 2.0) * gradient
        attributions = (image - start) * total
        ends = call.scores_of_images(torch.stack([start, image.detach()]))
        return attributions, attributions.flatten(1).sum(1) - (ends[1] - ends[0])

    def reduce(self, attributions: Tensor) -> Tensor:
        """Return the signed sum over the channels."""
        return attributions.sum(1)


# ------------------------------------------------------------------------------ changed rules for ReLU


@dataclass(frozen=True)
class GuidedBackprop(InputMethod):
    """Guided backpropagation: at each ReLU only positive gradients pass, and only where the input was positive.

    As the paper's Figure 1 has it, ``R = (x > 0) * (g > 0) * g``. ReLU with an upper bound (ReLU6) is one whose
    gradient is 0 above the bound too. Other activations, such as GELU, are differentiated as they are.

    Beware: the result depends little on the class (Adebayo et al., "Sanity checks for saliency maps").

    References
    ----------
    Springenberg et al., "Striving for simplicity: the all convolutional net", arXiv:1412.6806, section 3.4.

    Examples
    --------
    >>> GuidedBackprop()
    GuidedBackprop()
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(normalize="abs", layered=False, gradient=False)

    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return the guided gradient."""
        check_python(call, "GuidedBackprop")
        _, gradients = call.image_gradients(call.image[None], ReLURule(guided=True))
        return gradients[0], None


@dataclass(frozen=True)
class Deconvnet(InputMethod):
    """Deconvnet: at each ReLU only positive gradients pass, whatever the input was: ``R = (g > 0) * g``.

    References
    ----------
    Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, arXiv:1311.2901, section 2.1.

    Examples
    --------
    >>> Deconvnet()
    Deconvnet()
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(normalize="abs", layered=False, gradient=False)

    def input_attributions(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return the gradient by the deconvnet's rule."""
        check_python(call, "Deconvnet")
        _, gradients = call.image_gradients(call.image[None], ReLURule(guided=False))
        return gradients[0], None


@dataclass(frozen=True)
class GuidedGradCAM(Method):
    """Guided Grad-CAM: guided backpropagation times the Grad-CAM map, brought to the input's size.

    ``a = R * norm(up(relu(L)))``.

    References
    ----------
    Selvaraju et al., arXiv:1610.02391, section 3.2.

    Examples
    --------
    >>> GuidedGradCAM()
    GuidedGradCAM()
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(normalize="abs")

    def attribute(self, call: Call) -> Attribution:
        """Return the product; of several layers the mean of the normalised maps is taken."""
        check_python(call, "GuidedGradCAM")
        size = tuple(call.image.shape[2:])
        maps = [normalize_maps(raw, size, "max")[0] for raw in GradCAM().attribute(call).raw]
        _, gradients = call.image_gradients(call.image[None], ReLURule(guided=True))
        attributions = gradients[0] * torch.stack(maps).mean(0).unsqueeze(1)
        return Attribution((attributions.abs().amax(1),), attributions)


# ------------------------------------------------------------------------------ FullGrad


@dataclass(frozen=True)
class FullGrad(Method):
    """FullGrad: the input's part and every bias's part of the score, each brought to [0, 1] and summed.

    ``L = psi(|x * dy / dx|) + sum_b psi(|b * dy / db|)``.

    All biases count: of convolutions, linear layers and, in eval mode, the constant part of batch norms, wherever in
    the code they are. A piecewise linear network's score is the sum of all parts; `Explanation.delta` says how far the
    model is from that. Parts without a spatial axis (of linear layers) count for the sum, but have no place in the map.

    References
    ----------
    Srinivas, Fleuret, "Full-gradient representation for neural network visualization", NeurIPS 2019, arXiv:1905.00780,
    Eqs. (3) and (8).

    Examples
    --------
    >>> FullGrad()
    FullGrad()
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(layered=False, gradient=False)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw map, input times gradient as attributions, and the completeness gap."""
        check_python(call, "FullGrad")
        size = tuple(call.image.shape[2:])
        taps = BiasTaps()
        scores, gradients, at_taps = call.image_gradients_and(
            call.image[None], taps, lambda: [out for out, _ in taps.taps]
        )
        attributions = call.image * gradients[0]
        raw = _postprocessed(attributions, size)
        explained = attributions.flatten(1).sum(1)
        for (_, bias), gradient in zip(taps.taps, at_taps, strict=True):
            if gradient is None:
                continue
            part = bias * gradient
            explained = explained + part.flatten(1).sum(1)
            if part.dim() == call.image.dim():
                raw = raw + _postprocessed(part, size)
        taps.taps.clear()
        return Attribution((raw,), attributions, scores[0] - explained)


def _postprocessed(part: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return psi of a part: its magnitude, brought to [0, 1] per sample, summed over the channels and resized."""
    part = part.float() if part.dtype.itemsize < 4 else part
    if part.numel() == 0:
        return part.new_zeros((part.shape[0], *size))
    flat = part.abs().flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    unit = (part.abs() - per_sample(low, part)) / per_sample(span, part)
    return resize_maps(unit.sum(1), size)


# ------------------------------------------------------------------------------ noise around any method


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Any method, averaged over noisy copies of the input: SmoothGrad, VarGrad and SquareGrad.

    ``a = mean_i a(x + n_i)``, ``var_i`` or ``mean_i a(x + n_i)**2``.

    Signed attributions (or raw maps, for methods at layers) of the copies are combined, then made into a map by the
    method's own rule.

    Parameters
    ----------
    base : method object, default Saliency()
        The method.
    samples : int, default 50
        Noisy copies.
    sigma : float, default 0.15
        Standard deviation of the noise, as a share of the range of each sample's values.
    kind : {'mean', 'var', 'square'}
        How copies are combined: mean (SmoothGrad), variance of the population (VarGrad), mean of squares (SquareGrad).

    References
    ----------
    Smilkov et al., "SmoothGrad: removing noise by adding noise", arXiv:1706.03825, section 2; Adebayo et al.,
    arXiv:1810.03307 (VarGrad); Hooker et al., arXiv:1806.10758 (SquareGrad).

    Examples
    --------
    >>> SmoothGrad(samples=10)
    SmoothGrad(base=Saliency(), samples=10, sigma=0.15, kind='mean')
    """

    base: Method = Saliency()  # frozen, without state
    samples: int = 50
    sigma: float = 0.15
    kind: Literal["mean", "var", "square"] = "mean"

    def __post_init__(self) -> None:
        check_instance("base", self.base, Method)  # type: ignore[type-abstract]
        check_integer("samples", self.samples, minimum=1)
        check_interval("sigma", self.sigma, 0.0)
        check_choice("kind", self.kind, ("mean", "var", "square"))

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return replace(self.base.traits, random=True)

    def rows(self, start: int, stop: int, image: Tensor) -> SmoothGrad:
        """Return the method for some of the samples of a batch."""
        return replace(self, base=self.base.rows(start, stop, image))

    def attribute(self, call: Call) -> Attribution:
        """Return the combination of the base method's results."""
        generators = noise_generators(call)
        image, span = call.image, value_range(call.image)
        call.trace()
        first: list[Tensor] = []
        second: list[Tensor] = []
        for step in call.setup.show(range(self.samples), self.samples):
            noisy = image + self.sigma * span * draw_normal(generators, image)
            moved = call.moved(noisy)
            if self.base.traits.random:  # not the noise that is drawn here once more
                moved.seeds = tuple(int(torch.randint(2**62, (), generator=g)) for g in generators)
            for i, value in enumerate(self._values(moved)):
                if step == 0:
                    first.append(torch.zeros_like(value))
                    second.append(torch.zeros_like(value))
                if self.kind == "square":
                    second[i] = second[i] + value.square() / self.samples
                else:  # Welford: no difference of large squares
                    step_from_mean = value - first[i]
                    first[i] = first[i] + step_from_mean / (step + 1)
                    second[i] = second[i] + step_from_mean * (value - first[i]) / self.samples
        return self._combined(first, second)

    def _values(self, call: Call) -> tuple[Tensor, ...]:
        """Return what is combined, of one copy."""
        if isinstance(self.base, InputMethod):
            return (self.base.input_attributions(call)[0],)
        return self.base.attribute(call).raw

    def _combined(self, first: list[Tensor], second: list[Tensor]) -> Attribution:
        """Return the result from the means of values and of squares (around 0 or around the mean)."""
        values = tuple(first if self.kind == "mean" else second)
        if isinstance(self.base, InputMethod):
            return Attribution((self.base.reduce(values[0]),), values[0])
        return Attribution(values)
