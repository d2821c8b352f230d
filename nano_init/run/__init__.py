"""One call of nano-run or nano-init, from the request to what it does."""
