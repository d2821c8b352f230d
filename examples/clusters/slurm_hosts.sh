#!/bin/sh
#SBATCH --nodes=2 --ntasks-per-node=1 --exclusive
# One task on each host starts the host's workers.
srun --cpu-bind=none nano-run --nproc-per-node 2 train.py
