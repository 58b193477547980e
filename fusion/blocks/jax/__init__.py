"""Network blocks in JAX, from jax.nn and jax.lax: `function(parameters, *inputs, **options)`."""
