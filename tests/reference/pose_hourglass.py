"""The second published hourglass layout, evaluated from its state dict with plain functions."""

import torch
import torch.nn.functional as F


def _bn(state, name, x):
    shape = (1, -1, 1, 1)
    mean, var = state[f"{name}.running_mean"].view(shape), state[f"{name}.running_var"].view(shape)
    return (x - mean) / torch.sqrt(var + 1e-5) * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def _conv(state, name, x, **options):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def _newell_residual(state, name, x):
    y = _conv(state, f"{name}.conv1.conv", _bn(state, f"{name}.bn1", x).relu())
    y = _conv(state, f"{name}.conv2.conv", _bn(state, f"{name}.bn2", y).relu(), padding=1)
    y = _conv(state, f"{name}.conv3.conv", _bn(state, f"{name}.bn3", y).relu())
    out, channels = y.shape[1], x.shape[1]
    return y + (x if out == channels else _conv(state, f"{name}.skip_layer.conv", x))


def _newell_hourglass(state, name, x, depth):
    up = _newell_residual(state, f"{name}.up1", x)
    low = _newell_residual(state, f"{name}.low1", F.max_pool2d(x, 2))
    if depth > 1:
        low = _newell_hourglass(state, f"{name}.low2", low, depth - 1)
    else:
        low = _newell_residual(state, f"{name}.low2", low)
    low = _newell_residual(state, f"{name}.low3", low)
    return up + low.repeat_interleave(2, -1).repeat_interleave(2, -2)


def newell(state, x, stacks, depth):
    """The second layout, from its own names: stem 64 -> 128 -> pool -> 128 -> 256."""
    x = _bn(state, "pre.0.bn", _conv(state, "pre.0.conv", x, stride=2, padding=3)).relu()
    x = F.max_pool2d(_newell_residual(state, "pre.1", x), 2)
    x = _newell_residual(state, "pre.4", _newell_residual(state, "pre.3", x))
    outputs = []
    for s in range(stacks):
        y = _newell_residual(state, f"features.{s}.0", _newell_hourglass(state, f"hgs.{s}.0", x, depth))
        y = _bn(state, f"features.{s}.1.bn", _conv(state, f"features.{s}.1.conv", y)).relu()
        score = _conv(state, f"outs.{s}.conv", y)
        outputs.append(score)
        if s < stacks - 1:
            x = x + _conv(state, f"merge_preds.{s}.conv.conv", score) + _conv(state, f"merge_features.{s}.conv.conv", y)
    return torch.stack(outputs, 1)


def newell_state(network):
    """Name a network's tensors as the second layout has them, with the projections that it stores and never uses."""
    state, out = network.state_dict(), {}

    def copy(old, new):
        out.update({new + key[len(old) :]: value for key, value in state.items() if key.startswith(old)})

    def residual(old, new):
        for key, value in state.items():
            if key.startswith(old):
                layer, part = key[len(old) :].rsplit(".", 1)
                layer = "skip_layer.conv" if layer == "downsample.0" else layer + ".conv" * layer.startswith("conv")
                out[f"{new}{layer}.{part}"] = value
        channels, features = state[f"{old}conv1.weight"].shape[1], state[f"{old}conv3.weight"].shape[0]
        if channels == features:
            out[f"{new}skip_layer.conv.weight"] = torch.ones(features, channels, 1, 1)
            out[f"{new}skip_layer.conv.bias"] = torch.ones(features)

    copy("conv1.", "pre.0.conv.")
    copy("bn1.", "pre.0.bn.")
    for old, new in (("layer1.0.", "pre.1."), ("layer2.0.", "pre.3."), ("layer3.0.", "pre.4.")):
        residual(old, new)
    for s in range(network.stacks):
        for d in range(network.depth):
            inside = f"hgs.{s}.0." + "low2." * (network.depth - 1 - d)
            for k, name in enumerate(("up1.", "low1.", "low3.")):
                residual(f"hg.{s}.hg.{d}.{k}.0.", inside + name)
        residual(f"hg.{s}.hg.0.3.0.", f"hgs.{s}.0." + "low2." * network.depth)
        residual(f"res.{s}.0.", f"features.{s}.0.")
        copy(f"fc.{s}.0.", f"features.{s}.1.conv.")
        copy(f"fc.{s}.1.", f"features.{s}.1.bn.")
        copy(f"score.{s}.", f"outs.{s}.conv.")
        if s < network.stacks - 1:
            copy(f"fc_.{s}.", f"merge_features.{s}.conv.conv.")
            copy(f"score_.{s}.", f"merge_preds.{s}.conv.conv.")
    return out
