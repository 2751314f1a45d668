"""Time, tasks and child processes: what every room needs to never wait for ever."""
