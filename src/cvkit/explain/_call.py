"""One call on one batch: the forward with its hooks, the gradients of its head, and cheap scores of altered copies.

Everything here runs inside the state contract (`preserved`), which starts without grad mode. Below the earliest named
layer no graph is built: the hook there starts one. Above it only gradients with respect to activations are taken.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from cvkit.explain._graphs import at_least_float, count_positions, gradients_of, shows
from cvkit.explain._layers import named_layers, nothing_found, scripted_hint, watched
from cvkit.explain._resolution import Resolved, resolve_target, select_logits
from cvkit.explain._setup import Forward, LayerCall, Seen, Setup, as_grid, fitness, grad_mode
from cvkit.explain._tree import map_tensors, replace_tensor, take_rows
from cvkit.explain.capture import kept_and_passed_on, pick_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cvkit.explain.targets import TargetLike


__all__ = ["MANY", "Call"]

T = TypeVar("T")

_BYTES_PER_PASS = 2**26  # a pass of altered copies holds about 64 MiB at the place where they are made
_IMAGE_BYTES_PER_PASS = 5 * 2**20  # at the input, on CPUs: more rows only leave the caches (8 pictures of 224 x 224)
_MOST_ROWS_PER_PASS = 512
MANY = 32
"""From how many altered copies on another memory format of the weights is worth its conversion."""


@dataclass
class Call:
    """A model on a batch, traced on first use."""

    setup: Setup
    inputs: Any
    image: Tensor  # the floating tensor of the inputs that is explained
    target: TargetLike | Resolved
    seeds: tuple[int, ...] = ()  # one a sample, for methods with randomness
    calls: tuple[LayerCall, ...] | None = None
    retain: bool = False  # whether the graph serves several targets
    _output: Any = None
    _outputs: tuple[Tensor, ...] = ()  # what the layers gave, in their own form
    _gradients: tuple[Tensor, ...] | None = None
    _scores: Tensor | None = None
    _resolved: Resolved | None = None
    _leaf_image: Tensor | None = None  # where gradients of the first forward are taken, for methods at the input

    @property
    def rows(self) -> int:
        """The number of samples."""
        return self.image.shape[0]

    # ---------------------------------------------------------------- the forward

    def run(self, inputs: Any, forward: Forward | None = None) -> Any:
        """Run the model."""
        with self.setup.autocast():
            return (forward or self.setup.forward)(self.setup.model, inputs)

    def copied_inputs(self) -> Any:
        """Return the inputs in memory of their own: a model may write into its input."""
        return map_tensors(Tensor.clone, self.inputs)

    def trace(self) -> None:
        """Run the forward once, keeping the layers' outputs."""
        if self._output is not None:
            return
        if self.setup.layers is None and self.calls is None:
            self._discover()
        elif self.setup.layers or self.calls:
            self._trace_named(full_graph=self.setup.differentiable)
        else:
            self._trace_input()

    def _trace_input(self) -> None:
        """Forward without layers, with a graph from the image on where the method wants its gradient."""
        gradient = self.setup.gradient or self.setup.differentiable
        with grad_mode(gradient):
            inputs = self.copied_inputs()
            if gradient:
                self._leaf_image = self._leaf(self.image)
                inputs = self._with_images(self._leaf_image.clone(), 1)
            output = self.run(inputs)
            torch.set_grad_enabled(gradient)
            self._settle(output)

    def _settle(self, output: Any) -> None:
        """Keep an output, and resolve the target on it."""
        self._output = output
        if isinstance(self.target, Resolved):
            self._resolved = self.target
        else:
            self._resolved = resolve_target(self.target, output, self.setup.select, self.rows)
        self._scores = self._resolved.scores(output, self.rows)

    def _named(self) -> dict[str, nn.Module]:
        """Return the modules of the layers."""
        if self.setup.layers is not None:
            return dict(self.setup.layers)
        assert self.calls is not None
        layers = named_layers(self.setup.model)
        return {call.name: layers[call.name] for call in self.calls}

    def _trace_named(self, *, full_graph: bool) -> None:
        """Forward with named layers; the graph starts at the earliest of them unless the whole is asked for."""
        modules = self._named()
        kept: dict[str, list[Tensor]] = {name: [] for name in modules}
        gradient = self.setup.gradient or self.setup.differentiable

        def keep(name: str, _occurrence: int, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
            if gradient and not torch.is_inference_mode_enabled():
                torch.set_grad_enabled(True)
                keep_this, passed_on = kept_and_passed_on(output, inputs, cut=not output.requires_grad)
            else:
                keep_this, passed_on = kept_and_passed_on(output, inputs, cut=False)
            kept[name].append(keep_this)
            return passed_on

        with grad_mode(full_graph):
            with watched(modules, keep):
                output = self.run(self.copied_inputs())
            torch.set_grad_enabled(gradient)
            self._settle(output)
        if self.calls is None:
            shapes = {name: [tuple(t.shape) for t in calls] for name, calls in kept.items()}
            chosen = [(name, pick_call(name, shapes[name], self.setup.occurrence)) for name in modules]
        else:
            chosen = [(call.name, call.occurrence) for call in self.calls]
        self._outputs = tuple(kept[name][occurrence] for name, occurrence in chosen)
        self.calls = tuple(
            LayerCall(name, occurrence, as_grid(output, self.setup.spatial, self.setup.tokens))
            for (name, occurrence), output in zip(chosen, self._outputs, strict=True)
        )

    # ---------------------------------------------------------------- layers found from the forward

    def _discover(self) -> None:
        """Forward with a whole graph; take the last calls with several positions and a gradient that is not zero."""
        seen: list[Seen] = []
        with grad_mode(enabled=True):
            with watched(named_layers(self.setup.model), self._noting(seen)):
                output = self.run(self.copied_inputs())
            torch.set_grad_enabled(True)
            self._settle(output)
            found = self._fit(seen, select_logits(output, self.setup.select))
        self.calls = tuple(call for call, _, _, _ in found)
        if any(changed for _, _, _, changed in found) or self.setup.differentiable:
            # Something after the layer wrote into its output: once more, handing on a clone.
            self._output = None
            if not isinstance(self.target, Resolved):
                self.target = self._resolved
            self._trace_named(full_graph=self.setup.differentiable)
            return
        self._outputs = tuple(output for _, output, _, _ in found)
        if not self.retain:
            self._gradients = tuple(gradient for _, _, gradient, _ in found)

    def survey(self) -> list[tuple[Seen, bool]]:
        """Return every module call of one forward, with whether the scores have a gradient there that is not zero."""
        seen: list[Seen] = []
        with grad_mode(enabled=True):
            with watched(named_layers(self.setup.model), self._noting(seen)):
                output = self.run(self.copied_inputs())
            torch.set_grad_enabled(True)
            self._settle(output)
            outputs = [one.output for one in seen if one.output.requires_grad]
            found = gradients_of(self.scores, outputs) if self.scores.requires_grad and outputs else ()
        gradients = {id(output): gradient for output, gradient in zip(outputs, found, strict=False)}
        return [
            (one, (gradient := gradients.get(id(one.output))) is not None and bool((gradient != 0).any()))
            for one in seen
        ]

    @staticmethod
    def _noting(seen: list[Seen]) -> Callable[[str, int, Tensor, tuple[Any, ...]], Tensor | None]:
        """Return a visit that notes each call, and starts a graph at the first that has none."""

        def note(name: str, occurrence: int, output: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
            passed_on = None
            if not torch.is_inference_mode_enabled() and not output.requires_grad:
                torch.set_grad_enabled(True)
                output, passed_on = kept_and_passed_on(output, inputs, cut=True)
            seen.append(Seen(name, occurrence, output, 0 if output.is_inference() else output._version))
            return passed_on

        return note

    def _fit(self, seen: list[Seen], logits: Tensor | None) -> list[tuple[LayerCall, Tensor, Tensor, bool]]:
        """Return (call, output, gradient, overwritten) of the last fitting calls, in the order of the forward."""
        assert self._scores is not None
        if not self._scores.requires_grad:
            detached = "the scores do not depend on the model's layers through a graph (is the output detached?)"
            raise ValueError(detached + scripted_hint(self.setup.model))
        found: list[tuple[LayerCall, Tensor, Tensor, bool]] = []
        positions, zeros = 0, 0
        modules = named_layers(self.setup.model)
        for one in reversed(seen):
            fits, tokens = fitness(self.setup, modules[one.name], one.output, self.rows, logits)
            if not fits or (grid_size := count_positions(one.output, tokens)) <= max(positions, 1):
                continue
            (gradient,) = gradients_of(self._scores, (one.output,), retain_graph=True)
            if gradient is None or not shows(gradient, tokens):
                zeros += 1
                continue
            changed = not one.output.is_inference() and one.output._version != one.version
            found.insert(0, (LayerCall(one.name, one.occurrence, tokens), one.output, gradient, changed))
            positions = grid_size
            if len(found) == self.setup.layer_count:
                break
        if not found:
            raise ValueError(nothing_found(self.setup.model, zeros))
        return found

    # ---------------------------------------------------------------- what methods read

    @property
    def resolved(self) -> Resolved:
        """The target, ready."""
        self.trace()
        assert self._resolved is not None
        return self._resolved

    @property
    def output(self) -> Any:
        """What the model returned."""
        self.trace()
        return self._output

    @property
    def scores(self) -> Tensor:
        """The explained scores ``(N,)``, with their graph where there is one."""
        self.trace()
        assert self._scores is not None
        return self._scores

    def output_of(self, which: int) -> Tensor:
        """Return what a layer gave, in its own form, without a graph."""
        self.trace()
        return self._outputs[which].detach()

    def grids(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return tensors in the layers' own form as maps."""
        assert self.calls is not None
        return tuple(
            at_least_float(tensor if call.tokens is None else call.tokens.to_grid(tensor))
            for call, tensor in zip(self.calls, tensors, strict=True)
        )

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The layers' outputs as maps ``(N, C, *S)``, in at least float32."""
        self.trace()
        outputs = self.grids(self._outputs)
        return outputs if self.setup.differentiable else tuple(output.detach() for output in outputs)

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """The gradients of the scores with respect to the layers' outputs, as maps."""
        self.trace()
        if self._gradients is None:
            self._gradients = self._differentiate(self.scores)
        return self.grids(self._gradients)

    def _differentiate(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of summed scores at the layers."""
        found: tuple[Tensor | None, ...] = tuple(None for _ in self._outputs)
        if scores.requires_grad:
            found = gradients_of(
                scores,
                self._outputs,
                retain_graph=self.retain or self.setup.differentiable,
                create_graph=self.setup.differentiable,
            )
        if any(gradient is None for gradient in found):
            return self._differentiate_whole()
        return tuple(gradient for gradient in found if gradient is not None)

    def _differentiate_whole(self) -> tuple[Tensor, ...]:
        """As `_differentiate`, once more with a graph from the start: a model may switch grad mode itself."""
        with grad_mode(enabled=True):
            again = replace(self, target=self.resolved, _output=None, _gradients=None, _outputs=())
            again._trace_named(full_graph=True)
            scores = again.scores
            found: tuple[Tensor | None, ...] = (None,)
            if scores.requires_grad:
                found = gradients_of(scores, again._outputs, retain_graph=True, create_graph=self.setup.differentiable)
            self._output, self._outputs, self._scores = again._output, again._outputs, scores
        for call, gradient in zip(self.calls or (), found, strict=False):
            if gradient is None:
                raise ValueError(
                    f"the scores do not depend on layer {call.name!r} through a graph: the target does not use it, or "
                    "the model detaches it or switches inference mode on"
                )
        return tuple(gradient for gradient in found if gradient is not None)

    def gradient_for(self, scores: Tensor, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Return the gradients, in the layers' own form, of other scores of the same forward; the graph is kept."""
        found = gradients_of(scores, self._outputs, retain_graph=True, create_graph=create_graph)
        return tuple(
            torch.zeros_like(output) if gradient is None else gradient
            for output, gradient in zip(self._outputs, found, strict=True)
        )

    def hessian_product(self, gradients: Sequence[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Return, for gradients that have a graph, the Hessian times the layers' outputs, layer by layer."""
        products = []
        for gradient, output in zip(gradients, self._outputs, strict=True):
            found: tuple[Tensor | None, ...] = (None,)
            if gradient.requires_grad:
                found = torch.autograd.grad(
                    gradient,
                    output,
                    output if create_graph else output.detach(),
                    retain_graph=True,
                    create_graph=create_graph,
                    allow_unused=True,
                )
            products.append(torch.zeros_like(output) if found[0] is None else found[0])
        return tuple(products)

    # ---------------------------------------------------------------- relatives of this call

    def aimed(self, target: TargetLike | Resolved) -> Call:
        """Return the same forward with another target."""
        self.trace()
        if not isinstance(target, Resolved):
            target = resolve_target(target, self._output, self.setup.select, self.rows)
        with grad_mode(self._scores is not None and self._scores.requires_grad):
            scores = target.scores(self._output, self.rows)
        return replace(self, target=target, _resolved=target, _scores=scores, _gradients=None)

    def moved(self, image: Tensor) -> Call:
        """Return a call on another image of the same shape: same layers, same target."""
        self.trace()
        inputs = replace_tensor(self.inputs, self.image, image)
        return replace(
            self, inputs=inputs, image=image, target=self.resolved, retain=False, _output=None, _outputs=(),
            _gradients=None, _scores=None, _leaf_image=None,
        )  # fmt: skip

    def parts(self) -> Iterator[Call]:
        """Yield a call for each sample, sharing this forward; the whole where the target cannot be taken apart."""
        self.trace()
        assert self._scores is not None
        if self.rows <= 1 or not self.resolved.sliceable or self.setup.mixes_rows:
            yield self
            return
        for i in range(self.rows):
            j = i + 1
            image = self.image[i:j]
            inputs = take_rows(replace_tensor(self.inputs, self.image, image), i, j, self.rows)
            yield replace(
                self, inputs=inputs, image=image, target=self.resolved.rows(i, j), _resolved=self.resolved.rows(i, j),
                seeds=self.seeds[i:j], _outputs=tuple(output[i:j] for output in self._outputs),
                _scores=self._scores[i:j], _output=take_rows(self._output, i, j, self.rows),
                _gradients=None if self._gradients is None else tuple(g[i:j] for g in self._gradients),
            )  # fmt: skip

    # ---------------------------------------------------------------- altered copies

    def copies_per_pass(self, row: Tensor, most: int = _MOST_ROWS_PER_PASS) -> int:
        """Return how many altered copies of the batch go through the model at once, from one copy of it."""
        rows = self.rows if self.setup.mixes_rows else self.setup.chunk  # copies in one pass would share statistics
        if rows is None:
            per_row = max(1, row.nbytes // max(self.rows, 1))
            rows = max(1, min(most, self._bytes_per_pass(row) // per_row))
        return max(1, rows // max(self.rows, 1))

    def _bytes_per_pass(self, row: Tensor) -> int:
        """Return how many bytes of altered copies go through the model at once."""
        if row.device.type != "cpu":
            return _BYTES_PER_PASS
        if row is self.image:
            # Under autocast activations have half the size, and cast weights serve more rows.
            return _IMAGE_BYTES_PER_PASS * (1 if self.setup.autocast is nullcontext else 3)
        # Short passes stay nearer to the caches, but each repeats what lies below the layer: that pays where most of
        # the model's work lies above, at layers of many positions.
        return _BYTES_PER_PASS // (2 if self.has_positions(row, 256) else 1)

    def has_positions(self, A: Tensor, share: int) -> bool:
        """Whether activations have at least one position for so many of the image."""
        return share * A.shape[2:].numel() >= self.image.shape[2:].numel()

    def repeated_inputs(self, copies: int) -> Any:
        """Return the inputs, `copies` whole batches one after the other."""
        return self._with_images(self.image.repeat(copies, *[1] * (self.image.dim() - 1)), copies)

    def _with_images(self, images: Tensor, copies: int) -> Any:
        """Return the inputs with other images ``(copies * N, C, *S)``; what else has N rows is repeated."""
        if self.inputs is self.image:
            return images
        rows = self.rows

        def repeated(tensor: Tensor) -> Tensor:
            if tensor is self.image:
                return images
            if copies > 1 and tensor.dim() and tensor.shape[0] == rows:
                return tensor.repeat(copies, *[1] * (tensor.dim() - 1))
            return tensor.clone()

        return map_tensors(repeated, self.inputs)

    def scores_of_images(self, images: Tensor, *, many: bool = False) -> Tensor:
        """Return the scores ``(K, N)`` of altered images ``(K, N, C, *S)``, without a graph.

        The images may be written into by the model. With `many`, a pass of many, the channels-last form of the weights
        is used where there is one.
        """
        copies = images.shape[0]
        if copies > 1 and self.setup.mixes_rows:
            return torch.cat([self.scores_of_images(one[None]) for one in images])
        flat = images.flatten(0, 1)
        forward = self.setup.many if many else None
        if forward is not None:
            flat = flat.contiguous(memory_format=torch.channels_last)
        with grad_mode(enabled=False):
            output = self.run(self._with_images(flat, copies), forward)
            return self.resolved.grouped_scores(output, self.rows, copies)

    def _leaf(self, image: Tensor) -> Tensor:
        """Return an image to take gradients at."""
        if self.setup.differentiable and image.requires_grad:
            return image
        return image.detach().requires_grad_()

    @property
    def image_gradient(self) -> Tensor:
        """The gradient ``(N, C, *S)`` of the scores with respect to the image, of the first forward."""
        self.trace()
        assert self._leaf_image is not None
        return self._at_image(self.scores, self._leaf_image)

    def _at_image(self, scores: Tensor, image: Tensor, more: Sequence[Tensor] = ()) -> Tensor:
        """Return the gradient at the image."""
        return self._at_image_and(scores, image, more)[0]

    def _at_image_and(
        self, scores: Tensor, image: Tensor, more: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return the gradients at the image and at other tensors."""
        if not scores.requires_grad:
            raise ValueError("the scores do not depend on the input through a graph (is the output detached?)")
        create = self.setup.differentiable
        found = gradients_of(scores, (image, *more), create_graph=create, retain_graph=self.retain)
        return at_least_float(torch.zeros_like(image) if found[0] is None else found[0]), found[1:]

    def image_gradients(
        self, images: Tensor, rule: AbstractContextManager[object] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores ``(K, N)`` of images ``(K, N, C, *S)`` and their gradients, the forward inside `rule`."""
        scores, gradients, _ = self.image_gradients_and(images, rule or nullcontext(), tuple)
        return scores, gradients

    def image_gradients_and(
        self, images: Tensor, rule: AbstractContextManager[object], more: Callable[[], Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """As `image_gradients`, with the gradients at other tensors that the forward brings about."""
        self.trace()
        copies = images.shape[0]
        with grad_mode(enabled=True):
            leaf = self._leaf(images)
            with rule:
                output = self.run(self._with_images(leaf.flatten(0, 1).clone(), copies))
            torch.set_grad_enabled(True)
            scores = self.resolved.grouped_scores(output, self.rows, copies)
            gradients, others = self._at_image_and(scores, leaf, more())
        return scores, gradients, others
