"""What every process of ours needs: how it starts, what it may do, what it says, who else is alive."""
