"""What was refused: written, read, and sent back."""
