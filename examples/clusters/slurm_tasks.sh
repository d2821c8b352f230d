#!/bin/sh
#SBATCH --nodes=2 --ntasks-per-node=2
# Each task is a worker, on the cores that Slurm bound it to, or on its part of the host's.
srun nano-run --nproc-per-node 1 train.py
