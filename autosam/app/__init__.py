"""The browser app: one model on this machine, seen and corrected through a page that loads nothing else."""
