"""Samples of a training: a bounded number of its steps, in an isolated process."""
