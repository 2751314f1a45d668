"""What AWS tells a machine about its end."""
