"""The CAM family as method objects: each holds the constants of a function in `cvkit.explain.cam`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cvkit._checks import check_choice, check_instance, check_integer, check_interval
from cvkit.explain import cam
from cvkit.explain._method import ActivationMethod, Method, Traits, draw_normal, noise_generators, value_range
from cvkit.explain._resolution import select_logits
from cvkit.explain._restart import scores_from_layer
from cvkit.explain._setup import Attribution, grad_mode
from cvkit.explain.targets import Comparison, LogitPlusLogProbability

if TYPE_CHECKING:
    from cvkit.explain._call import Call

__all__ = [
    "CAM",
    "FEM",
    "KPCACAM",
    "EigenCAM",
    "EigenGradCAM",
    "ElementWise",
    "FinerCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "RefineCAM",
    "SegXResCAM",
    "ShapleyCAM",
    "SmoothGradCAMPlusPlus",
    "XGradCAM",
]


@dataclass(frozen=True)
class GradCAM(ActivationMethod):
    """Grad-CAM: see `cam.gradcam`.

    Examples
    --------
    >>> GradCAM()
    GradCAM()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.gradcam(A, g)


@dataclass(frozen=True)
class GradCAMPlusPlus(ActivationMethod):
    """Grad-CAM++: see `cam.gradcam_plus_plus`.

    Examples
    --------
    >>> GradCAMPlusPlus()
    GradCAMPlusPlus()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.gradcam_plus_plus(A, g)


@dataclass(frozen=True)
class XGradCAM(ActivationMethod):
    """XGrad-CAM: see `cam.xgradcam`.

    Examples
    --------
    >>> XGradCAM()
    XGradCAM()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.xgradcam(A, g)


@dataclass(frozen=True)
class HiResCAM(ActivationMethod):
    """HiResCAM: see `cam.hirescam`. The raw map is the unrectified sum, for which the paper's guarantee holds.

    Examples
    --------
    >>> HiResCAM()
    HiResCAM()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.hirescam(A, g)


@dataclass(frozen=True)
class ElementWise(ActivationMethod):
    """Grad-CAM without pooling, rectified per channel: see `cam.elementwise`.

    Examples
    --------
    >>> ElementWise()
    ElementWise()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.elementwise(A, g)


@dataclass(frozen=True)
class LayerCAM(ActivationMethod):
    """LayerCAM: see `cam.layercam`. Several layers are fused as in the paper, by ``"tanh-max"``.

    Examples
    --------
    >>> LayerCAM().traits.fuse
    'tanh-max'
    """

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(fuse="tanh-max")

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.layercam(A, g)


@dataclass(frozen=True)
class EigenCAM(ActivationMethod):
    """EigenCAM: see `cam.eigencam`. Needs no target.

    Parameters
    ----------
    center : bool, default False
        Whether each channel's mean is taken off first.

    Examples
    --------
    >>> EigenCAM()
    EigenCAM(center=False)
    """

    center: bool = False

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False)

    def map(self, A: Tensor, g: Tensor) -> Tensor:  # noqa: ARG002
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.eigencam(A, center=self.center)


@dataclass(frozen=True)
class EigenGradCAM(ActivationMethod):
    """EigenCAM of gradient times activation: see `cam.eigengradcam`.

    Parameters
    ----------
    magnitude : bool, default False
        Whether the magnitude of the gradients is used (the variant for segmentation).
    center : bool, default False
        Whether each channel's mean is taken off first.

    Examples
    --------
    >>> EigenGradCAM()
    EigenGradCAM(magnitude=False, center=False)
    """

    magnitude: bool = False
    center: bool = False

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.eigengradcam(A, g, magnitude=self.magnitude, center=self.center)


@dataclass(frozen=True)
class KPCACAM(ActivationMethod):
    """KPCA-CAM: see `cam.kpcacam`. Needs no target.

    Parameters
    ----------
    kernel : {'sigmoid', 'rbf', 'linear'}
        The kernel.
    gamma : float, optional
        Scale of the kernel; 1 / C if not given.
    offset : float, default 1.0
        Offset of the sigmoid kernel.

    Examples
    --------
    >>> KPCACAM()
    KPCACAM(kernel='sigmoid', gamma=None, offset=1.0)
    """

    kernel: Literal["sigmoid", "rbf", "linear"] = "sigmoid"
    gamma: float | None = None
    offset: float = 1.0

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, ("sigmoid", "rbf", "linear"))

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False)

    def map(self, A: Tensor, g: Tensor) -> Tensor:  # noqa: ARG002
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.kpcacam(A, kernel=self.kernel, gamma=self.gamma, offset=self.offset)


@dataclass(frozen=True)
class FEM(ActivationMethod):
    """FEM: see `cam.fem`. Needs no target.

    Parameters
    ----------
    k : float, default 2.0
        How many standard deviations above the mean.

    Examples
    --------
    >>> FEM()
    FEM(k=2.0)
    """

    k: float = 2.0

    def __post_init__(self) -> None:
        check_interval("k", self.k, 0.0)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(gradient=False)

    def map(self, A: Tensor, g: Tensor) -> Tensor:  # noqa: ARG002
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.fem(A, k=self.k)


@dataclass(frozen=True)
class SegXResCAM(ActivationMethod):
    """Seg-XRes-CAM: see `cam.segxrescam`; its target is usually a `Region`.

    Parameters
    ----------
    window : int, default 2
        Side of the windows over which gradients are averaged.

    Examples
    --------
    >>> SegXResCAM()
    SegXResCAM(window=2)
    """

    window: int = 2

    def __post_init__(self) -> None:
        check_integer("window", self.window, minimum=1)

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.segxrescam(A, g, window=self.window)


@dataclass(frozen=True)
class CAM(Method):
    """Class activation mapping: see `cam.cam`. For networks that end in global average pooling and one linear layer.

    That is tested on the model at hand, not taken from its modules' names: the gradient must be the same at every
    position, and the score must be linear in the activations. The weights are the gradient's sums, which then are the
    linear layer's.

    Examples
    --------
    >>> CAM()
    CAM()
    """

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of a call, or raise if the network is not of the kind."""
        raw = []
        for i, (A, g) in enumerate(zip(call.activations, call.gradients, strict=True)):
            axes = list(range(2, A.dim()))
            mean = g.mean(axes, keepdim=True)
            constant = (g - mean).detach().abs().amax() <= 1e-3 * g.detach().abs().amax() if g.numel() else True
            if not constant or not all(_is_affine(part, i) for part in call.parts()):
                raise ValueError(
                    "CAM needs a network that ends in global average pooling of the layer and one linear layer (or a "
                    "target linear in its logits); use GradCAM, which is the same there and works elsewhere"
                )
            raw.append(cam.cam(A, g.sum(axes)))
        return Attribution(tuple(raw))


def _is_affine(call: Call, which: int) -> bool:
    """Whether the scores are affine in a layer's activations, tried on zeros and on the channels in reverse order."""
    if call.rows == 0:
        return True
    A = call.activations[which].detach()
    g = call.gradients[which].detach()

    def alter(buffer: Tensor, start: int, stop: int) -> None:
        for i in range(start, stop):
            buffer[i - start] = 0 if i == 0 else A.flip(1)

    zero, turned = scores_from_layer(call, which, 2, alter)
    predicted = (A.flip(1) * g).flatten(1).sum(1).to(zero.dtype)
    finite = torch.isfinite(predicted) & torch.isfinite(turned)
    scale = (A.flip(1) * g).abs().flatten(1).sum(1) + zero.abs()
    return bool(((turned - zero - predicted).abs() <= _tolerance(zero) * scale)[finite].all())


def _tolerance(values: Tensor) -> float:
    """Return the relative difference that counts as rounding."""
    return 3e-2 if values.dtype.itemsize < 4 else 1e-3


@dataclass(frozen=True)
class SmoothGradCAMPlusPlus(Method):
    """Smooth Grad-CAM++: see `cam.smooth_gradcam_plus_plus`.

    Parameters
    ----------
    samples : int, default 16
        Noisy copies of the input.
    sigma : float, default 0.15
        Standard deviation of the noise, as a share of the range of each sample's values.

    Examples
    --------
    >>> SmoothGradCAMPlusPlus()
    SmoothGradCAMPlusPlus(samples=16, sigma=0.15)
    """

    samples: int = 16
    sigma: float = 0.15

    def __post_init__(self) -> None:
        check_integer("samples", self.samples, minimum=1)
        check_interval("sigma", self.sigma, 0.0)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return Traits(random=True)

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        generators = noise_generators(call)
        image, span = call.image, value_range(call.image)
        activations = call.activations
        moments = [[torch.zeros_like(A) for A in activations] for _ in range(3)]
        for _ in call.setup.show(range(self.samples), self.samples):
            noisy = image + self.sigma * span * draw_normal(generators, image)
            for i, g in enumerate(call.moved(noisy).gradients):
                for power in range(3):
                    moments[power][i] = moments[power][i] + g ** (power + 1) / self.samples
        first, second, third = moments
        return Attribution(
            tuple(cam.from_moments(*each) for each in zip(activations, first, second, third, strict=True))
        )


@dataclass(frozen=True)
class ShapleyCAM(Method):
    """ShapleyCAM: see `cam.shapleycam`.

    For class logits the target becomes logit plus log-probability, since a network with ReLU has no second derivative
    of the logit alone; other targets are taken as they are.

    Examples
    --------
    >>> ShapleyCAM()
    ShapleyCAM()
    """

    def attribute(self, call: Call) -> Attribution:
        """Return the raw maps of all layers of a call."""
        call.retain = True
        _ = call.gradients  # settles how the graph is built
        aimed = call
        logits = select_logits(call.output, call.setup.select)
        if call.resolved.of_class and logits is not None:
            assert call.resolved.index is not None
            aimed = call.aimed(LogitPlusLogProbability(call.resolved.index))
        with grad_mode(enabled=True):
            first = aimed.gradient_for(aimed.scores, create_graph=True)
            second = aimed.hessian_product(first, create_graph=call.setup.differentiable)
        grids = (call.grids(each) for each in (first, second))
        maps = tuple(cam.shapleycam(A, g, h) for A, g, h in zip(call.activations, *grids, strict=True))
        return Attribution(maps)


@dataclass(frozen=True)
class FinerCAM(Method):
    """Finer-CAM: what sets a class apart from those most like it.

    ``y = y_c - weight * mean_d(y_d)``.

    The explained score is the class's logit minus `weight` times the mean logit of the `references` classes whose
    logits are closest to it; the map is that of another method for this score.

    Parameters
    ----------
    base : method object, default GradCAM()
        The method that makes the map.
    weight : float, default 0.6
        How much the other classes count.
    references : int, default 3
        How many other classes.

    References
    ----------
    Zhang et al., "Finer-CAM: spotting the difference reveals finer details for visual explanation", CVPR 2025,
    arXiv:2501.11309, Eqs. (4) and (5).

    Examples
    --------
    >>> FinerCAM()
    FinerCAM(base=GradCAM(), weight=0.6, references=3)
    """

    base: Method = GradCAM()  # frozen, without state
    weight: float = 0.6
    references: int = 3

    def __post_init__(self) -> None:
        check_instance("base", self.base, Method)  # type: ignore[type-abstract]
        check_interval("weight", self.weight, 0.0)
        check_integer("references", self.references, minimum=1)

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return self.base.traits

    def rows(self, start: int, stop: int, image: Tensor) -> FinerCAM:
        """Return the method for some of the samples of a batch."""
        return replace(self, base=self.base.rows(start, stop, image))

    def attribute(self, call: Call) -> Attribution:
        """Return what the base method finds for the difference."""
        if not call.resolved.of_class:
            raise ValueError("FinerCAM compares classes: `target` must be a class, or left out, and the logits (N, K)")
        index = call.resolved.index
        assert index is not None
        logits = select_logits(call.output, call.setup.select)
        assert logits is not None
        count = min(self.references, logits.shape[1] - 1)
        distance = (logits.detach() - logits.detach().gather(1, index[:, None])).abs().float()
        distance = distance.scatter(1, index[:, None], torch.inf)
        others = distance.argsort(dim=1, stable=True)[:, :count]
        return self.base.attribute(call.aimed(Comparison(index, others, self.weight)))


@dataclass(frozen=True)
class RefineCAM(Method):
    """RefineCAM: the product of the normalised maps of several layers, coarse ones telling where and fine ones how far.

    ``L = prod_l norm(up(relu(L_l)))`` over the layers l.

    Where no layer is named, the last fitting layer of each of the last three sizes is taken.

    Parameters
    ----------
    base : method object, default GradCAMPlusPlus()
        The method that makes each layer's map.

    References
    ----------
    "RefineCAM", arXiv:2605.14641: maps are normalised per layer, then multiplied.

    Examples
    --------
    >>> RefineCAM()
    RefineCAM(base=GradCAMPlusPlus())
    """

    base: Method = GradCAMPlusPlus()  # frozen, without state

    def __post_init__(self) -> None:
        check_instance("base", self.base, Method)  # type: ignore[type-abstract]
        if not self.base.traits.layered:
            raise ValueError(f"`base` must work at layers; got {self.base!r}")

    @property
    def traits(self) -> Traits:
        """What the method needs."""
        return replace(self.base.traits, fuse="product", layer_count=3)

    def rows(self, start: int, stop: int, image: Tensor) -> RefineCAM:
        """Return the method for some of the samples of a batch."""
        return replace(self, base=self.base.rows(start, stop, image))

    def attribute(self, call: Call) -> Attribution:
        """Return the base method's raw map of each layer; the door normalises and multiplies them."""
        return self.base.attribute(call)
