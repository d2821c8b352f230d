"""Data-parallel training on the workers of a job: repairs of Keras, and equal shares."""
