"""Network blocks in JAX, from jax.nn and jax.lax: `function(*activations, parameters, **options)`."""
