"""What moves: sources, the trainer, the guard's and serving's processes, HTTP and the command."""
