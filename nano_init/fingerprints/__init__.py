"""Which sources of Keras and TensorFlow the patch was verified on: digests, and their data."""
