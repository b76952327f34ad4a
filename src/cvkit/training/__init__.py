"""Training that survives anything and repeats exactly: the engine under ``pose.fit`` and ``gan.fit``.

A run is a `State` (networks, optimisers, averages, numbers), a step function ``(state, batch) -> metrics`` and batches
that are a pure function of (seed, step). `train` drives it: it resumes by itself from the newest whole checkpoint,
writes a log, saves on SIGINT and SIGTERM, and stops before a non-finite number reaches a parameter. Every random
choice derives from (seed, step, purpose) and the place in the global batch, so a resumed run equals an unbroken one
bit for bit, and several processes under ``torchrun`` do what one does.

Examples
--------
A whole fit. A ``fit`` of a submodule is this, with its own networks and step:

>>> import tempfile
>>> import torch
>>> from cvkit import training
>>> def fit(x, y, *, out, steps, seed=0, batch_size=8, device="cpu", precision="float32", **options):
...     with training.processes(device) as world:
...         torch_rng = training.generator(seed, 0, "weights")
...         network = torch.nn.Linear(x.shape[1], 1).to(world.device)
...         torch.nn.init.normal_(network.weight, std=0.1, generator=torch_rng)
...         state = training.State(
...             modules={"network": network},
...             optimizers={"network": torch.optim.Adam(network.parameters(), lr=0.05)},
...             averages={"network": training.Average(network)},
...             numbers={"noise": 0.01},
...             seed=seed,
...             batch_size=batch_size,
...             precision=precision,
...             world=world,
...         )
...         data = training.InMemory({"x": x, "y": y}, world.device)
...         sampler = training.ResumableSampler(len(data), batch_size, seed=seed)
...
...         def step(state, batch):
...             noise = torch.randn(batch_size, x.shape[1], generator=state.generator("noise"), device=world.device)
...             with state.autocast():
...                 found = network(batch["x"] + state.numbers["noise"] * state.share(noise))
...                 loss = torch.nn.functional.mse_loss(found, batch["y"])
...             result = training.update(state, "network", loss, clip=10.0)
...             decay = training.half_life_decay(batch_size, half_life=200)
...             state.averages["network"].update(network, decay=decay)
...             return {"loss": result.loss, "gradient_norm": result.gradient_norm}
...
...         return training.train(
...             state,
...             step,
...             training.Sampled(sampler, data, world),
...             model=state.averages["network"].module,
...             out=out,
...             steps=steps,
...             meta={"kind": "line", "features": x.shape[1]},
...             fingerprint={"data": {"count": len(data)}},
...             **options,
...         )
>>> x = torch.linspace(-1, 1, 64)[:, None]
>>> with tempfile.TemporaryDirectory() as folder:
...     first = fit(x, 3 * x, out=folder, steps=70, log_every=20)
...     run = fit(x, 3 * x, out=folder, steps=200, log_every=20)  # goes on at step 70
...     checkpoint = training.find_checkpoint(folder).name
...     weights = training.read_tensors(folder, "averages.network")  # enough for inference
>>> [row["step"] for row in first.history], len(run.history), checkpoint
([20, 40, 60, 70], 10, 'step-00000200')
>>> run.history[-1]["loss"] < run.history[0]["loss"], torch.equal(weights["weight"], run.model.weight)
(True, True)
"""

from __future__ import annotations

from cvkit.training.checkpoint import (
    checkpoints,
    environment,
    prune,
    save_checkpoint,
)
from cvkit.training.data import InMemory
from cvkit.training.distributed import World, processes
from cvkit.training.ema import Average, half_life_decay
from cvkit.training.loader import Loader, Replayed
from cvkit.training.log import CsvLog, Means, tensorboard_writer
from cvkit.training.log import Row as Row
from cvkit.training.loop import Batches as Batches
from cvkit.training.loop import Record, Run, iterate, train
from cvkit.training.loop import Resume as Resume
from cvkit.training.loop import Step as Step
from cvkit.training.precision import Bfloat16, probe_bfloat16
from cvkit.training.reading import find_checkpoint, read_document, read_tensors, restore
from cvkit.training.sampler import ResumableSampler, Sampled
from cvkit.training.seeds import derive_seed, generator
from cvkit.training.signals import StopRequest, stop_on_signals
from cvkit.training.state import DivergenceError, State, Stateful, Update, check_finite_so_far, update
from cvkit.training.state import Precision as Precision
from cvkit.training.trees import Json as Json

__all__ = [
    "Average",
    "Bfloat16",
    "CsvLog",
    "DivergenceError",
    "InMemory",
    "Loader",
    "Means",
    "Record",
    "Replayed",
    "ResumableSampler",
    "Run",
    "Sampled",
    "State",
    "Stateful",
    "StopRequest",
    "Update",
    "World",
    "check_finite_so_far",
    "checkpoints",
    "derive_seed",
    "environment",
    "find_checkpoint",
    "generator",
    "half_life_decay",
    "iterate",
    "probe_bfloat16",
    "processes",
    "prune",
    "read_document",
    "read_tensors",
    "restore",
    "save_checkpoint",
    "stop_on_signals",
    "tensorboard_writer",
    "train",
    "update",
]
