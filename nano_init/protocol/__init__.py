"""Every value that crosses a process boundary, and every variable of nano-init's own."""
