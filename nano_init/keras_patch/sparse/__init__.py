"""Sparse gradients: repeated ids are summed once, and lazy Adam updates the rows they name."""
