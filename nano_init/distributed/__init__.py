"""Data-parallel training: a worker of a job, inside its process."""
