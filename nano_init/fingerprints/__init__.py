"""The Keras and TensorFlow sources that the patch was verified on, as digests."""
