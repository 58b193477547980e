"""Models that come with Keras 3, on TensorFlow and on JAX."""
