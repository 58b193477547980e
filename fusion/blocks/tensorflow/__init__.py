"""Network blocks in TensorFlow, from tf.nn: `function(parameters, *inputs, **options)`."""
