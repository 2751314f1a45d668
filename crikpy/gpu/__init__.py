"""What NVIDIA's driver and tools tell, and what they can be told to do."""
