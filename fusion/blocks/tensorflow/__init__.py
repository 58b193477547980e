"""Network blocks in TensorFlow, from tf.nn: `function(*activations, parameters, **options)`."""
