"""What this computer is: read from /proc and /sys, held in frozen values."""
