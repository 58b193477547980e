"""Network blocks in Keras 3, on TensorFlow and on JAX, with its layers and keras.ops."""
