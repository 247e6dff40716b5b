"""A step in pieces encodes everything twice, which has to be the same function both times."""

import torch

from mac_ray.config import Contrastive, Objectives
from mac_ray.model.dual import build_model
from mac_ray.objectives.weighted import build_objectives
from mac_ray.training.distributed import Worker
from mac_ray.training.forward import Learner, Pass, loss_and_gradients
from tests.objectives.small import DATA, MASK, MODEL, PAD, VOCABULARY, batch

PIECES = 3


def test_what_drops_out_of_a_piece_is_the_same_both_times_and_not_that_of_another() -> None:
    text = MODEL.text.model_copy(update={"dropout": 0.3})
    model = build_model(MODEL.model_copy(update={"text": text}), DATA, VOCABULARY, PAD, seed=0).train()
    objectives = build_objectives(Objectives(contrastive=Contrastive()), model, MASK, seed=0)
    learner = Learner(model, objectives.positions)
    encoded = []
    learner.register_forward_hook(lambda _module, _inputs, output: encoded.append(output[1].detach()))
    inputs = batch(size=6)
    inputs.tokens[:] = inputs.tokens[0]  # one caption, so that pieces differ by what drops out alone
    inputs.attended[:] = inputs.attended[0]
    now = Pass(step=3, progress=0.0, pieces=PIECES, seed=0, worker=Worker(), dtype=None)
    loss_and_gradients(learner, objectives.pairs, inputs, {}, 6, now)

    first, again = encoded[:PIECES], encoded[PIECES:]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
