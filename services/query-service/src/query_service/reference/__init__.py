"""Reference data: symbols, instruments, symbology, corporate actions."""
