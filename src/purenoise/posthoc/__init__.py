"""What is done to a finished run without training: its last layer, its decisions."""
