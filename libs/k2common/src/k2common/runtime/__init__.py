"""The life of a service process: settings, signals, loops, drain, exit codes."""
