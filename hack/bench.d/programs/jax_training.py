"""Trains a network that JAX has compiled, and compiles it again for another shape on the way."""

import jax
import jax.numpy as jnp


def loss_of(weights, inputs, targets):
    hidden = jnp.tanh(inputs @ weights["first"])
    return jnp.mean((hidden @ weights["second"] - targets) ** 2)


@jax.jit
def advance(weights, key):
    inputs = jax.random.normal(key, (256, 128))
    loss, slopes = jax.value_and_grad(loss_of)(weights, inputs, jnp.sin(inputs.sum(axis=1)))
    return jax.tree.map(lambda weight, slope: weight - 0.05 * slope, weights, slopes), loss


key = jax.random.key(1)
weights = {"first": jax.random.normal(key, (128, 512)) / 11, "second": jnp.zeros(512)}
for step in range(1500):
    weights, loss = advance(weights, jax.random.fold_in(key, step))
    if step % 10 == 0:
        print("step", step // 10, float(loss).hex(), flush=True)
    if step == 1000:
        weights = {"first": weights["first"][:, :384], "second": weights["second"][:384]}
